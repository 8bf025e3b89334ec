package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "deputy-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	workshop = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// workshop is where the binary is built, for all tests of this run.
var workshop string

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("DEPUTY_BIN"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(workshop, "deputy")
	out, err := exec.Command("go", "build", raceFlag, "-buildvcs=false", "-o", path, "../../cmd/deputy").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building deputy: %w\n%s", err, out)
	}
	return path, nil
})

// inCI reports whether nothing may be skipped for want of a program.
func inCI() bool { return os.Getenv("CI") == "true" }

// lacking skips a test for want of a program, or fails it where that program must be there.
func lacking(t *testing.T, what, remedy string) {
	t.Helper()
	if inCI() {
		t.Fatalf("%s; in CI it must be there: %s", what, remedy)
	}
	t.Skipf("%s; %s", what, remedy)
}
