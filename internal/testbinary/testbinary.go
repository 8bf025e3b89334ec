// Package testbinary makes the deputy binary that tests drive from outside.
package testbinary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

const command = "github.com/deputy-id/deputy/cmd/deputy"

// Workshop builds the binary when it is first asked for, once for all tests of a process. It is built without the race
// detector, whatever the tests are: each package that it is made of has tests of its own.
type Workshop struct {
	once   sync.Once
	folder string
	path   string
	err    error
}

// Run has the tests run, and removes what was built for them.
func (w *Workshop) Run(tests func() int) int {
	defer func() { _ = os.RemoveAll(w.folder) }()
	return tests()
}

// Binary returns the path of the binary. Where the environment names one as DEPUTY_BIN, that is taken.
func (w *Workshop) Binary() (path string, err error) {
	w.once.Do(func() { w.path, w.err = w.build() })
	return w.path, w.err
}

func (w *Workshop) build() (path string, err error) {
	if path := os.Getenv("DEPUTY_BIN"); path != "" {
		return filepath.Abs(path)
	}
	if w.folder, err = os.MkdirTemp("", "deputy-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(w.folder, "deputy")
	out, err := exec.Command("go", "build", "-race=false", "-buildvcs=false", "-o", path, command).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building deputy: %w\n%s", err, out)
	}
	return path, nil
}
