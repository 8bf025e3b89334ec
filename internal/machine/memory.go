// Package machine asks the operating system what this process has to live with.
package machine

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// AvailableMemory is what processes may still take of the machine, and of the control groups that this one is in; 0 where
// nobody tells.
func AvailableMemory() int64 {
	own, _ := os.ReadFile("/proc/self/cgroup") //nolint:errcheck // elsewhere than on Linux there are none
	return least(meminfo("MemAvailable:"), leftByGroups("/sys/fs/cgroup", string(own)))
}

// least is the lesser of two, of which 0 says nothing.
func least(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// leftByGroups is the least that any of the control groups leaves which own names, as /proc/self/cgroup does, or any that
// those are in; 0 where none has a limit. It knows both versions of them.
func leftByGroups(root, own string) (left int64) {
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		tree, limit, used := root, "memory.max", "memory.current"
		if parts[1] != "" {
			if !slices.Contains(strings.Split(parts[1], ","), "memory") {
				continue
			}
			tree, limit, used = filepath.Join(root, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
		}
		for group := path.Join("/", parts[2]); ; group = path.Dir(group) {
			if most := number(filepath.Join(tree, group, limit)); most > 0 {
				left = least(left, max(1, most-number(filepath.Join(tree, group, used))))
			}
			if group == "/" {
				break
			}
		}
	}
	return left
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
