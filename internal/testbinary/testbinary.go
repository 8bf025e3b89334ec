// Package testbinary makes the deputy binary that tests drive from outside.
package testbinary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const command = "github.com/deputy-id/deputy/cmd/deputy"

// In builds the binary into a folder, without the race detector, and returns its path. Where the environment names one
// as DEPUTY_BIN, that is taken.
func In(folder string) (path string, err error) {
	if path := os.Getenv("DEPUTY_BIN"); path != "" {
		return filepath.Abs(path)
	}
	path = filepath.Join(folder, "deputy")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, command).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building deputy: %w\n%s", err, out)
	}
	return path, nil
}
