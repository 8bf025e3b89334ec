package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

// suiteWait bounds one run of tests. It is many times what the slowest takes on one busy core.
const suiteWait = 15 * time.Minute

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	return dir
}

// apply returns the file of a mutant as the edits make it.
func (m *mutant) apply(t *testing.T, root string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, m.file))
	require.NoError(t, err)
	text := string(content)
	for _, e := range m.edits {
		require.Equal(t, 1, strings.Count(text, e.old), "mutant %q is outdated: %s must hold this once:\n%s", m.name, m.file, e.old)
		text = strings.Replace(text, e.old, e.new, 1)
	}
	return text
}

func TestEveryMutantStillApplies(t *testing.T) {
	require.Len(t, table, 10)
	for _, m := range table {
		text := m.apply(t, root(t))
		_, err := parser.ParseFile(token.NewFileSet(), m.file, text, parser.SkipObjectResolution)
		require.NoError(t, err, m.name)
	}
}

// start runs a suite, under an overlay where one is given.
func (s *suite) start(t *testing.T, root, overlay string, extra ...string) (output string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suiteWait)
	defer cancel()
	args := []string{"test", "-vet=off", "-count=1", "-timeout", suiteWait.String()}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(append(args, extra...), s.pkg)
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = root
	command.Env = append(os.Environ(), s.env...)
	command.Env = append(command.Env, "DEPUTY_MUTANTS=", "DEPUTY_SIM_FAILURES="+t.TempDir())
	var text bytes.Buffer
	command.Stdout, command.Stderr = &text, &text
	err := command.Run()
	require.NoError(t, ctx.Err(), "%s took longer than %s", s.name, suiteWait)
	return text.String(), err != nil
}

func (s *suite) test(t *testing.T, root, overlay string) (output string, failed bool) {
	t.Helper()
	return s.start(t, root, overlay, "-run", s.run)
}

// overlay writes the mutated file and the list that puts it in its place.
func (m *mutant) overlay(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	mutated := filepath.Join(dir, filepath.Base(m.file))
	require.NoError(t, os.WriteFile(mutated, []byte(m.apply(t, root)), 0o600))
	list, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, m.file): mutated}})
	require.NoError(t, err)
	path := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(path, list, 0o600))
	return path
}

var (
	failedTest     = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	brokenSchedule = regexp.MustCompile(`(?m)seed \d+: \d+ leaders`)
	brokenPromise  = regexp.MustCompile(`(?m)^\s+(fenced|kept|silent|fresh|equal|final|alive|forward): `)
)

// caught says by what the output of a failed run shows that the mutant was noticed, or "".
func (s *suite) caught(output string) string {
	if !s.promise {
		if in := failedTest.FindStringSubmatch(output); in != nil {
			return in[1]
		}
		return ""
	}
	var promises []string
	for _, in := range brokenPromise.FindAllStringSubmatch(output, -1) {
		if !slices.Contains(promises, in[1]) {
			promises = append(promises, in[1])
		}
	}
	if promises == nil {
		return ""
	}
	slices.Sort(promises)
	return fmt.Sprintf("%s: %s in %d of them", s.name, strings.Join(promises, ", "), len(brokenSchedule.FindAllString(output, -1)))
}

func TestEveryMutantIsCaught(t *testing.T) {
	if os.Getenv("DEPUTY_MUTANTS") != "1" {
		t.Skip("this takes minutes: `make mutants` runs it")
	}
	root, only := root(t), os.Getenv("DEPUTY_MUTANT")
	var chosen []mutant
	for _, m := range table {
		if strings.Contains(m.name, only) {
			chosen = append(chosen, m)
		}
	}
	require.NotEmpty(t, chosen, "no mutant has %q in its name", only)

	sound := make(map[string]bool)
	for _, m := range chosen {
		for _, s := range m.suites {
			if sound[s.name] {
				continue
			}
			output, failed := s.test(t, root, "")
			require.False(t, failed, "%s fails on the code as it is:\n%s", s.name, output)
			require.NotContains(t, output, "no tests to run", s.name)
			sound[s.name] = true
		}
	}

	lines := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(lines, "mutant\tfile\tcaught by\tseconds")
	count := 0
	for _, m := range chosen {
		began := time.Now()
		by := m.check(t, root)
		if by == "" {
			by = "NOT CAUGHT"
		} else {
			count++
		}
		fmt.Fprintf(lines, "%s\t%s\t%s\t%.0f\n", m.name, m.file, by, time.Since(began).Seconds())
	}
	require.NoError(t, lines.Flush())
	fmt.Printf("mutants: %d of %d caught\n", count, len(chosen))
	require.Equal(t, len(chosen), count, "a rule can be broken without a test that notices")
}

// check returns what noticed the mutant, or "".
func (m *mutant) check(t *testing.T, root string) string {
	t.Helper()
	overlay := m.overlay(t, root)
	var by []string
	for _, s := range m.suites {
		// Compiling alone first: an error of the compiler is no test that notices.
		if output, failed := s.start(t, root, overlay, "-run", "^$"); failed {
			t.Errorf("mutant %q does not compile:\n%s", m.name, output)
			return ""
		}
		output, failed := s.test(t, root, overlay)
		if !failed {
			continue
		}
		if noticed := s.caught(output); noticed != "" {
			by = append(by, noticed)
		} else {
			t.Errorf("mutant %q: the run failed, but no test did:\n%s", m.name, output)
		}
	}
	return strings.Join(by, "; ")
}
