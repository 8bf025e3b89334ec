package server

import (
	"fmt"
	"syscall"
)

// freeBytes is what an ordinary process may still write to the file system that holds path.
func freeBytes(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("reading the free space of %s: %w", path, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}
