package bench

import (
	"bufio"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

// Environment is what a figure must not be quoted without.
type Environment struct {
	CPU        string `json:"cpu"`
	CPUs       int    `json:"cpus"` // that the run may use
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	GOMAXPROCS int    `json:"gomaxprocs"` // of this process
	OS         string `json:"os"`
	Scheduling string `json:"scheduling,omitempty"` // see result.Environment
}

func environment() Environment {
	return Environment{
		CPU: cpuModel(), CPUs: runtime.NumCPU(), Kernel: kernel(), Go: runtime.Version(),
		GOMAXPROCS: runtime.GOMAXPROCS(0), OS: runtime.GOOS + "/" + runtime.GOARCH, Scheduling: scheduling(),
	}
}

// environmentOf is the environment as results have it.
func environmentOf() result.Environment {
	e := environment()
	out := result.Environment{
		Version: "unknown", CPU: e.CPU, CPUs: e.CPUs, Kernel: e.Kernel, OS: e.OS, Go: e.Go, GOMAXPROCS: e.GOMAXPROCS, Scheduling: e.Scheduling,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	out.Version = info.Main.Version
	changed := false
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			out.Commit = setting.Value
		case "vcs.modified":
			changed = setting.Value == "true"
		}
	}
	if changed && out.Commit != "" {
		out.Commit += "+changes"
	}
	return out
}

const unknown = "unknown"

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return strings.TrimLeft(name, "\t: ")
		}
	}
	return unknown
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return unknown
	}
	return strings.TrimSpace(string(release))
}
