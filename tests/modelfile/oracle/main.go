// The judge of the tests: answers JSON lines with what Ollama's own parser package makes of a Modelfile.
//
// One request a line on stdin, one answer a line on stdout:
//
//	{"op": "parse", "text": base64}                 -> {"commands": [{"name", "args"}]} or {"error"}
//	{"op": "request", "text": base64, "dir": path}  -> {"request": what `ollama create` would send} or {"error"}
//	{"op": "parameter", "name": n, "value": v}      -> {"value": typed} or {"error"}
//	{"op": "renderer", "name": n}                   -> {} or {"error"}
//	{"op": "parser", "name": n}                     -> {} or {"error"}
//	{"op": "printable"}                             -> {"ranges": [[first, last], ...]}: the characters that the parser keeps
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"unicode/utf8"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/model/parsers"
	"github.com/ollama/ollama/model/renderers"
	"github.com/ollama/ollama/parser"
)

type question struct {
	Op    string `json:"op"`
	Text  []byte `json:"text"`
	Dir   string `json:"dir"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

type command struct {
	Name string `json:"name"`
	Args string `json:"args"`
}

type answer struct {
	Commands []command          `json:"commands,omitempty"`
	Request  *api.CreateRequest `json:"request,omitempty"`
	Value    any                `json:"value,omitempty"`
	Ranges   [][2]rune          `json:"ranges,omitempty"`
	Error    string             `json:"error,omitempty"`
}

func parse(q question) answer {
	file, err := parser.ParseFile(bytes.NewReader(q.Text))
	if err != nil {
		return answer{Error: err.Error()}
	}
	if q.Op == "request" {
		request, err := file.CreateRequest(q.Dir)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Request: request}
	}
	commands := make([]command, 0, len(file.Commands))
	for _, c := range file.Commands {
		commands = append(commands, command{c.Name, c.Args})
	}
	return answer{Commands: commands}
}

func parameter(q question) answer {
	typed, err := api.FormatParams(map[string][]string{q.Name: {q.Value}})
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Value: typed[q.Name]}
}

func renderer(q question) answer {
	hello := []api.Message{{Role: "user", Content: "hello"}}
	if _, err := renderers.RenderWithRenderer(q.Name, hello, nil, nil); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{}
}

func builtinParser(q question) answer {
	if parsers.ParserForName(q.Name) == nil {
		return answer{Error: "unknown parser " + q.Name}
	}
	return answer{}
}

func printable() answer {
	var ranges [][2]rune
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !strconv.IsPrint(r) {
			continue
		}
		if n := len(ranges); n > 0 && ranges[n-1][1] == r-1 {
			ranges[n-1][1] = r
		} else {
			ranges = append(ranges, [2]rune{r, r})
		}
	}
	return answer{Ranges: ranges}
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	os.Stdout = os.Stderr // the parser prints its warnings to stdout
	defer out.Flush()
	ask, tell := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q question
		if err := ask.Decode(&q); err != nil {
			return
		}
		var a answer
		switch q.Op {
		case "parse", "request":
			a = parse(q)
		case "parameter":
			a = parameter(q)
		case "renderer":
			a = renderer(q)
		case "parser":
			a = builtinParser(q)
		case "printable":
			a = printable()
		default:
			a = answer{Error: "unknown op " + q.Op}
		}
		if err := tell.Encode(a); err != nil {
			if err := tell.Encode(answer{Error: "cannot be said in JSON: " + err.Error()}); err != nil {
				return
			}
		}
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}
