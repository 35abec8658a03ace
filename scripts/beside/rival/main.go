// Command rival asks gguf-parser-go, used as a library, what loads would take on one device.
//
// It reads a JSON array of loads from stdin and writes one answer for each to stdout, in bytes: what the library says
// of the device that holds the layers, by part. The options are the library's own for the same settings; flash
// attention, which it does not resolve by itself, is what the runtime resolved it to. The image is the one that the
// library takes where nobody names another, which is the runtime's own at its start.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	gguf "github.com/gpustack/gguf-parser-go"
)

type load struct {
	Model          string `json:"model"`
	Projector      string `json:"projector"`
	NumCtx         int32  `json:"num_ctx"`
	Parallel       int32  `json:"parallel"`
	Batch          int32  `json:"batch"`
	UBatch         int32  `json:"ubatch"`
	TypeK          string `json:"kv_type_k"`
	TypeV          string `json:"kv_type_v"`
	FlashAttention bool   `json:"flash_attn"`
	GPULayers      uint64 `json:"gpu_layers"`
	Host           bool   `json:"host"`
}

type answer struct {
	Weights   uint64 `json:"weights"`
	Cache     uint64 `json:"cache"`
	Compute   uint64 `json:"compute"`
	Projector uint64 `json:"projector"`
	Encoder   uint64 `json:"encoder"`
	Total     uint64 `json:"total"`
	Error     string `json:"error,omitempty"`
}

var cacheTypes = map[string]gguf.GGMLType{
	"f32": gguf.GGMLTypeF32, "f16": gguf.GGMLTypeF16, "bf16": gguf.GGMLTypeBF16,
	"q8_0": gguf.GGMLTypeQ8_0, "q5_1": gguf.GGMLTypeQ5_1, "q5_0": gguf.GGMLTypeQ5_0,
	"q4_1": gguf.GGMLTypeQ4_1, "q4_0": gguf.GGMLTypeQ4_0, "iq4_nl": gguf.GGMLTypeIQ4_NL,
}

func main() {
	var loads []load
	if err := json.NewDecoder(os.Stdin).Decode(&loads); err != nil {
		fmt.Fprintln(os.Stderr, "rival:", err)
		os.Exit(2)
	}
	answers := make([]answer, len(loads))
	for i := range loads {
		answers[i] = estimate(loads[i])
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, "rival:", err)
		os.Exit(1)
	}
}

func estimate(l load) (a answer) {
	// The library panics over options it holds impossible.
	defer func() {
		if r := recover(); r != nil {
			a.Error = fmt.Sprint(r)
		}
	}()
	options := []gguf.GGUFRunEstimateOption{
		gguf.WithLLaMACppContextSize(l.NumCtx * l.Parallel),
		gguf.WithParallelSize(l.Parallel),
		gguf.WithLLaMACppLogicalBatchSize(l.Batch),
		gguf.WithLLaMACppPhysicalBatchSize(l.UBatch),
		gguf.WithLLaMACppCacheKeyType(cacheTypes[l.TypeK]),
		gguf.WithLLaMACppCacheValueType(cacheTypes[l.TypeV]),
		gguf.WithLLaMACppOffloadLayers(l.GPULayers),
	}
	if l.FlashAttention {
		options = append(options, gguf.WithFlashAttention())
	}
	if l.Projector != "" {
		projector, err := estimatedProjector(l.Projector, options)
		if err != nil {
			a.Error = err.Error()
			return a
		}
		a.Projector, a.Encoder = partsOf(projector)
		options = append(options, gguf.WithLLaMACppProjector(&projector))
	}
	if l.Model == "" {
		a.Total = a.Projector + a.Encoder
		return a
	}
	model, err := gguf.ParseGGUFFile(l.Model)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	estimated := model.EstimateLLaMACppRun(options...)
	device := estimated.Devices[1]
	if l.Host {
		device = estimated.Devices[0]
	}
	a.Weights, a.Cache, a.Compute = uint64(device.Weight.Sum()), uint64(device.KVCache.Sum()), uint64(device.Computation.Sum())
	a.Total = a.Weights + a.Cache + a.Compute + a.Projector + a.Encoder
	if !l.Host {
		// Its own sum, without a flat footprint of the driver.
		a.Total = uint64(estimated.SummarizeItem(true, 0, 0).VRAMs[0].NonUMA)
	}
	return a
}

// estimatedProjector is what the library says of a projector, which goes to the device whole wherever the layers go.
func estimatedProjector(path string, options []gguf.GGUFRunEstimateOption) (gguf.LLaMACppRunEstimate, error) {
	file, err := gguf.ParseGGUFFile(path)
	if err != nil {
		return gguf.LLaMACppRunEstimate{}, err
	}
	whole := append(slices.Clone(options), gguf.WithLLaMACppOffloadLayers(1))
	return file.EstimateLLaMACppRun(whole...), nil
}

func partsOf(projector gguf.LLaMACppRunEstimate) (weights, encoder uint64) {
	return uint64(projector.Devices[1].Weight.Sum()), uint64(projector.Devices[1].Computation.Sum())
}
