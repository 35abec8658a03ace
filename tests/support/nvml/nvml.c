/* A libnvidia-ml.so.1 that answers from a scenario file, so that the real pynvml can be driven through every state
 * of a card and a driver without having either.
 *
 * The file is named by QWENOPS_TEST_NVML and holds "key = value" lines. Lines before the first [gpu] are about the
 * driver; [gpu] starts a card, [mig] a MIG device of the card above it. Sizes are in bytes, errors are NVML's numbers.
 *
 *   driver: driver, init (error), count_error
 *   card or MIG device: name, uuid, bus (domain:bus:device in hexadecimal), total, reserved, used, memory_v1 and
 *   memory_v2 (errors), cc (major.minor), handle (error), mig (1 on, 0 off; absent: not supported), slots,
 *   processes_error, process (compute|graphics PID BYTES, BYTES "-" where the driver will not say),
 *   power (milliwatts; with "energy = 1" the energy counter rises by it from the system's start), clock (MHz),
 *   temperature (degrees), reasons (nvmlClocksEventReasons): what is absent is not supported,
 *   children (PID NAME BYTES: every child of process PID with that name holds BYTES more, as long as it lives)
 *
 * Functions can be left out at compile time by -DWITHOUT_<name>, to stand for an older driver.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NVML_SUCCESS 0
#define NVML_ERROR_UNINITIALIZED 1
#define NVML_ERROR_INVALID_ARGUMENT 2
#define NVML_ERROR_NOT_SUPPORTED 3
#define NVML_ERROR_NOT_FOUND 6
#define NVML_ERROR_INSUFFICIENT_SIZE 7
#define NVML_ERROR_UNKNOWN 999
#define NVML_ERROR_ARGUMENT_VERSION_MISMATCH 25
#define NOT_AVAILABLE 0xffffffffffffffffULL
#define MEMORY_V2 0x02000028u

enum { MAX_CARDS = 8, MAX_PARTS = 8, MAX_PROCESSES = 16, COMPUTE = 0, GRAPHICS = 1 };

typedef struct {
    int context;
    unsigned pid;
    unsigned long long bytes;
} process_t;

typedef struct unit {
    char name[160], uuid[160];
    unsigned domain, bus, device;
    unsigned long long total, reserved, used;
    int memory_v1, memory_v2, handle, mig, processes_error;
    int cc_major, cc_minor;
    int process_count, part_count, slots;
    long power, clock, temperature, reasons;
    int energy;
    unsigned parent;
    char child[32];
    unsigned long long child_bytes;
    process_t processes[MAX_PROCESSES];
    struct unit *parts[MAX_PARTS];
} unit_t;

static struct {
    int started, init, count_error, card_count;
    char driver[160];
    unit_t *cards[MAX_CARDS];
} world;

static unit_t *new_unit(void) {
    unit_t *unit = calloc(1, sizeof *unit);
    unit->mig = -1;
    unit->cc_major = -1;
    unit->power = unit->clock = unit->temperature = unit->reasons = -1;
    return unit;
}

static void set_driver(const char *key, const char *value) {
    if (!strcmp(key, "driver")) snprintf(world.driver, sizeof world.driver, "%s", value);
    else if (!strcmp(key, "init")) world.init = atoi(value);
    else if (!strcmp(key, "count_error")) world.count_error = atoi(value);
}

static void set_unit(unit_t *unit, const char *key, const char *value) {
    if (!strcmp(key, "name")) snprintf(unit->name, sizeof unit->name, "%s", value);
    else if (!strcmp(key, "uuid")) snprintf(unit->uuid, sizeof unit->uuid, "%s", value);
    else if (!strcmp(key, "bus")) sscanf(value, "%x:%x:%x", &unit->domain, &unit->bus, &unit->device);
    else if (!strcmp(key, "total")) unit->total = strtoull(value, NULL, 10);
    else if (!strcmp(key, "reserved")) unit->reserved = strtoull(value, NULL, 10);
    else if (!strcmp(key, "used")) unit->used = strtoull(value, NULL, 10);
    else if (!strcmp(key, "memory_v1")) unit->memory_v1 = atoi(value);
    else if (!strcmp(key, "memory_v2")) unit->memory_v2 = atoi(value);
    else if (!strcmp(key, "handle")) unit->handle = atoi(value);
    else if (!strcmp(key, "mig")) unit->mig = atoi(value);
    else if (!strcmp(key, "slots")) unit->slots = atoi(value);
    else if (!strcmp(key, "processes_error")) unit->processes_error = atoi(value);
    else if (!strcmp(key, "power")) unit->power = atol(value);
    else if (!strcmp(key, "energy")) unit->energy = atoi(value);
    else if (!strcmp(key, "clock")) unit->clock = atol(value);
    else if (!strcmp(key, "temperature")) unit->temperature = atol(value);
    else if (!strcmp(key, "reasons")) unit->reasons = atol(value);
    else if (!strcmp(key, "cc")) sscanf(value, "%d.%d", &unit->cc_major, &unit->cc_minor);
    else if (!strcmp(key, "children")) sscanf(value, "%u %31s %llu", &unit->parent, unit->child, &unit->child_bytes);
    else if (!strcmp(key, "process") && unit->process_count < MAX_PROCESSES) {
        char context[16] = "", bytes[32] = "";
        process_t *process = &unit->processes[unit->process_count++];
        sscanf(value, "%15s %u %31s", context, &process->pid, bytes);
        process->context = !strcmp(context, "graphics") ? GRAPHICS : COMPUTE;
        process->bytes = !strcmp(bytes, "-") ? NOT_AVAILABLE : strtoull(bytes, NULL, 10);
    }
}

static void read_world(void) {
    const char *path = getenv("QWENOPS_TEST_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], key[64], value[160];
    unit_t *unit = NULL;
    memset(&world, 0, sizeof world);
    if (!file) {
        world.init = NVML_ERROR_UNKNOWN;
        return;
    }
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "[gpu]", 5) && world.card_count < MAX_CARDS) {
            unit = world.cards[world.card_count++] = new_unit();
        } else if (!strncmp(line, "[mig]", 5) && world.card_count) {
            unit_t *card = world.cards[world.card_count - 1];
            if (card->part_count < MAX_PARTS) unit = card->parts[card->part_count++] = new_unit();
        } else if (sscanf(line, " %63[a-z_0-9] = %159[^\n]", key, value) == 2) {
            if (unit) set_unit(unit, key, value);
            else set_driver(key, value);
        }
    }
    fclose(file);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    read_world();
    world.started = world.init == NVML_SUCCESS;
    return world.init;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!world.started) return NVML_ERROR_UNINITIALIZED;
    world.started = 0;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(int error) {
    static char text[40];
    snprintf(text, sizeof text, "scenario error %d", error);
    return text;
}

#define STARTED \
    if (!world.started) return NVML_ERROR_UNINITIALIZED

#ifndef WITHOUT_nvmlSystemGetDriverVersion
int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    STARTED;
    snprintf(out, length, "%s", world.driver);
    return NVML_SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetCount_v2
int nvmlDeviceGetCount_v2(unsigned *count) {
    STARTED;
    *count = (unsigned)world.card_count;
    return world.count_error;
}
#endif

int nvmlDeviceGetHandleByIndex_v2(unsigned index, unit_t **out) {
    STARTED;
    if (index >= (unsigned)world.card_count) return NVML_ERROR_INVALID_ARGUMENT;
    *out = world.cards[index];
    return (*out)->handle;
}

int nvmlDeviceGetName(unit_t *unit, char *out, unsigned length) {
    STARTED;
    snprintf(out, length, "%s", unit->name);
    return unit->name[0] ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

#ifndef WITHOUT_nvmlDeviceGetUUID
int nvmlDeviceGetUUID(unit_t *unit, char *out, unsigned length) {
    STARTED;
    snprintf(out, length, "%s", unit->uuid);
    return unit->uuid[0] ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}
#endif

typedef struct {
    char legacy_bus_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} pci_t;

#ifndef WITHOUT_nvmlDeviceGetPciInfo_v3
int nvmlDeviceGetPciInfo_v3(unit_t *unit, pci_t *out) {
    STARTED;
    memset(out, 0, sizeof *out);
    out->domain = unit->domain;
    out->bus = unit->bus;
    out->device = unit->device;
    snprintf(out->legacy_bus_id, sizeof out->legacy_bus_id, "%04X:%02X:%02X.0", unit->domain & 0xffff,
             unit->bus & 0xff, unit->device & 0xff);
    snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:%02X.0", unit->domain, unit->bus, unit->device);
    return NVML_SUCCESS;
}
#endif

typedef struct {
    unsigned long long total, free, used;
} memory_v1_t;

/* The living children that the scenario asks for, at most `room` of them. */
static int list_children(unit_t *unit, unsigned *pids, int room) {
    DIR *proc = unit->parent ? opendir("/proc") : NULL;
    struct dirent *entry;
    int found = 0;
    while (proc && (entry = readdir(proc))) {
        char path[300], name[64] = "", state = 0;
        unsigned parent = 0;
        FILE *file;
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        if (!(file = fopen(path, "r"))) continue;
        if (fscanf(file, "%*d (%63[^)]) %c %u", name, &state, &parent) == 3 && parent == unit->parent &&
            state != 'Z' && !strcmp(name, unit->child) && found < room)
            pids[found++] = (unsigned)atoi(entry->d_name);
        fclose(file);
    }
    if (proc) closedir(proc);
    return found;
}

static unsigned long long used_now(unit_t *unit) {
    unsigned pids[MAX_PROCESSES];
    return unit->used + unit->child_bytes * (unsigned long long)list_children(unit, pids, MAX_PROCESSES);
}

/* The first version knows no reserve: what the driver keeps counts as used. */
int nvmlDeviceGetMemoryInfo(unit_t *unit, memory_v1_t *out) {
    STARTED;
    if (unit->memory_v1) return unit->memory_v1;
    out->total = unit->total;
    out->used = used_now(unit) + unit->reserved;
    out->free = out->total - out->used;
    return NVML_SUCCESS;
}

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} memory_v2_t;

#ifndef WITHOUT_nvmlDeviceGetMemoryInfo_v2
int nvmlDeviceGetMemoryInfo_v2(unit_t *unit, memory_v2_t *out) {
    STARTED;
    if (out->version != MEMORY_V2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (unit->memory_v2) return unit->memory_v2;
    out->total = unit->total;
    out->reserved = unit->reserved;
    out->used = used_now(unit);
    out->free = unit->total - unit->reserved - out->used;
    return NVML_SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetCudaComputeCapability
int nvmlDeviceGetCudaComputeCapability(unit_t *unit, int *major, int *minor) {
    STARTED;
    if (unit->cc_major < 0) return NVML_ERROR_NOT_SUPPORTED;
    *major = unit->cc_major;
    *minor = unit->cc_minor;
    return NVML_SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetMigMode
int nvmlDeviceGetMigMode(unit_t *unit, unsigned *current, unsigned *pending) {
    STARTED;
    if (unit->mig < 0) return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = (unsigned)unit->mig;
    return NVML_SUCCESS;
}
#endif

int nvmlDeviceGetMaxMigDeviceCount(unit_t *unit, unsigned *count) {
    STARTED;
    *count = unit->slots ? (unsigned)unit->slots : (unsigned)unit->part_count;
    return NVML_SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(unit_t *unit, unsigned index, unit_t **out) {
    STARTED;
    if (index >= (unsigned)unit->part_count) return NVML_ERROR_NOT_FOUND;
    *out = unit->parts[index];
    return NVML_SUCCESS;
}

typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} process_info_t;

static int list_processes(unit_t *unit, int context, unsigned *count, process_info_t *out) {
    unsigned room = *count, found = 0, pids[MAX_PROCESSES];
    int children;
    STARTED;
    if (unit->processes_error) return unit->processes_error;
    for (int i = 0; i < unit->process_count; i++) {
        if (unit->processes[i].context != context) continue;
        if (out && found < room) {
            out[found].pid = unit->processes[i].pid;
            out[found].used = unit->processes[i].bytes;
            out[found].gpu_instance = out[found].compute_instance = 0xffffffffu;
        }
        found++;
    }
    children = context == COMPUTE ? list_children(unit, pids, MAX_PROCESSES) : 0;
    for (int i = 0; i < children; i++, found++) {
        if (!out || found >= room) continue;
        out[found].pid = pids[i];
        out[found].used = unit->child_bytes;
        out[found].gpu_instance = out[found].compute_instance = 0xffffffffu;
    }
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3
int nvmlDeviceGetComputeRunningProcesses_v3(unit_t *unit, unsigned *count, process_info_t *out) {
    return list_processes(unit, COMPUTE, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(unit_t *unit, unsigned *count, process_info_t *out) {
    return list_processes(unit, GRAPHICS, count, out);
}
#endif

#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v2
int nvmlDeviceGetComputeRunningProcesses_v2(unit_t *unit, unsigned *count, process_info_t *out) {
    return list_processes(unit, COMPUTE, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(unit_t *unit, unsigned *count, process_info_t *out) {
    return list_processes(unit, GRAPHICS, count, out);
}
#endif

static int say(long known, unsigned *out) {
    STARTED;
    if (known < 0) return NVML_ERROR_NOT_SUPPORTED;
    *out = (unsigned)known;
    return NVML_SUCCESS;
}

int nvmlDeviceGetPowerUsage(unit_t *unit, unsigned *out) { return say(unit->power, out); }

int nvmlDeviceGetClockInfo(unit_t *unit, unsigned kind, unsigned *out) {
    (void)kind;
    return say(unit->clock, out);
}

int nvmlDeviceGetTemperature(unit_t *unit, unsigned sensor, unsigned *out) {
    (void)sensor;
    return say(unit->temperature, out);
}

int nvmlDeviceGetTotalEnergyConsumption(unit_t *unit, unsigned long long *out) {
    struct timespec now;
    STARTED;
    if (!unit->energy || unit->power < 0) return NVML_ERROR_NOT_SUPPORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *out = (unsigned long long)((double)unit->power * ((double)now.tv_sec + (double)now.tv_nsec / 1e9));
    return NVML_SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(unit_t *unit, unsigned long long *out) {
    STARTED;
    if (unit->reasons < 0) return NVML_ERROR_NOT_SUPPORTED;
    *out = (unsigned long long)unit->reasons;
    return NVML_SUCCESS;
}
