package interop

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	sdk = "../../sdk/python"
	// debianPython is the interpreter that has Debian's packages. Another one may come before it on the PATH.
	debianPython = "/usr/bin/python3"
)

// python returns an interpreter that the SDK supports, or skips the test.
func python(t *testing.T) string {
	t.Helper()
	const question = "import sys; print(int(sys.version_info >= (3, 9)), sys.executable)"
	out, _, err := run(t, "", nil, "", "python3", "-c", question)
	if err != nil {
		lacking(t, "there is no python3", "install Python 3.9 or later")
	}
	enough, executable, _ := strings.Cut(strings.TrimSpace(out), " ")
	if enough != "1" {
		lacking(t, executable+" is too old", "install Python 3.9 or later")
	}
	return executable // python3 may be a script that looks for it
}

// pythonWithAuthlib returns an interpreter that has authlib, or skips the test.
func pythonWithAuthlib(t *testing.T) string {
	t.Helper()
	for _, interpreter := range []string{debianPython, "python3"} {
		if _, _, err := run(t, "", nil, "", interpreter, "-c", "import authlib.integrations.requests_client"); err == nil {
			return interpreter
		}
	}
	lacking(t, "no python3 here has authlib and requests", "apt-get install python3-authlib python3-requests, as .ci/run does")
	return ""
}

// script runs Python that has to succeed and returns what it printed. Warnings are errors, such as of a connection
// that is left open.
func script(t *testing.T, interpreter string, environment []string, stdin string, argv ...string) string {
	t.Helper()
	here, err := filepath.Abs(sdk)
	require.NoError(t, err)
	environment = append([]string{"PYTHONPATH=" + here, "PYTHONDONTWRITEBYTECODE=1"}, environment...)
	out, stderr, err := run(t, "", environment, stdin, append([]string{interpreter}, argv...)...)
	require.NoError(t, err, "%s\n%s", out, stderr)
	return out
}

var testsRan = regexp.MustCompile(`(?m)^Ran (\d+) tests in .*\n\nOK`)

// The client's own tests need no node.
func TestUnitTestsOfThePythonClient(t *testing.T) {
	interpreter := python(t)
	_, stderr, err := run(t, sdk, []string{"PYTHONDONTWRITEBYTECODE=1"}, "", interpreter, "-W", "error", "-m", "unittest")
	require.NoError(t, err, stderr)
	found := testsRan.FindStringSubmatch(stderr)
	require.NotNil(t, found, stderr)
	ran, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	require.Greater(t, ran, 50, "most of the tests were not found")
}
