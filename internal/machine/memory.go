// Package machine asks the operating system what this process has to live with.
package machine

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// AvailableMemory is what processes may still take of the machine, and of the control group that this one is in; 0 where
// nobody tells.
func AvailableMemory() int64 {
	available := meminfo("MemAvailable:")
	if limit, used := number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory.current"); limit > 0 {
		if left := max(1, limit-used); available == 0 || left < available {
			available = left
		}
	}
	return available
}

func meminfo(field string) int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), field); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

func number(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0 // "max", mostly
	}
	return n
}
