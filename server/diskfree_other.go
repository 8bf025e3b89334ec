//go:build !linux

package server

import (
	"errors"
	"fmt"
)

// freeBytes is only known on Linux.
func freeBytes(path string) (uint64, error) {
	return 0, fmt.Errorf("reading the free space of %s: %w", path, errors.ErrUnsupported)
}
