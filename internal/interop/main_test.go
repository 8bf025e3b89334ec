package interop

import (
	"os"
	"testing"

	"github.com/deputy-id/deputy/internal/testbinary"
)

// workshop makes the binary, for all tests of this run.
var workshop testbinary.Workshop

func TestMain(m *testing.M) { os.Exit(workshop.Run(m.Run)) }

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
