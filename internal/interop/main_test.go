package interop

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/deputy-id/deputy/internal/testbinary"
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

// It is built without the race detector, whatever the tests are: what is looked at is what others make of its answers,
// and each package that it is made of has tests of its own.
var binary = sync.OnceValues(func() (string, error) { return testbinary.In(workshop) })

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
