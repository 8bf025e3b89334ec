package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A crash may stop a write anywhere. Whatever is left of it, the whole lines stay and the log goes on.
func TestTornTailIsCutOffAndRecorded(t *testing.T) {
	source := t.TempDir()
	l := openLog(t, testOptions(source))
	appendAll(t, l, 0, 3)
	closeLog(t, l)
	text, err := os.ReadFile(filepath.Join(source, segmentName(1)))
	require.NoError(t, err)
	lines := linesOf(t, source)
	whole := len(text) - len(lines[len(lines)-1])
	for cut := whole - 2; cut < len(text); cut += 7 {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1)), text[:cut], 0o600))
		leaveHead(t, dir, lines, 1, false)
		l := openLog(t, testOptions(dir))
		appendAll(t, l, 10, 12)
		closeLog(t, l)
		requireWhole(t, dir)
		torn := cut != whole && cut != whole-len(lines[len(lines)-2])
		require.Equal(t, torn, countKind(t, dir, KindRecovered) == 1, cut)
	}
	for name, tail := range map[string]string{"zeros": string(make([]byte, 4096)), "many zeros": string(make([]byte, MaxLine+4096)), "half": `{"prev":"12`} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1)), append(text[:len(text):len(text)], tail...), 0o600))
		leaveHead(t, dir, lines, len(lines), false)
		l := openLog(t, testOptions(dir))
		closeLog(t, l)
		requireWhole(t, dir)
		require.Equal(t, 1, countKind(t, dir, KindRecovered), name)
	}
}

func TestCrashWhileASegmentIsBegunIsHarmless(t *testing.T) {
	for name, left := range map[string]string{"empty": "", "half a header": `{"prev":"00`} {
		t.Run(name, func(t *testing.T) {
			// At the very first start.
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1)), []byte(left), 0o600))
			l := openLog(t, testOptions(dir))
			appendAll(t, l, 0, 3)
			closeLog(t, l)
			last := requireWhole(t, dir).Last

			// And later.
			require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(last+1)), []byte(left), 0o600))
			l = openLog(t, testOptions(dir))
			appendAll(t, l, 3, 6)
			closeLog(t, l)
			require.Equal(t, 1, requireWhole(t, dir).Segments)
		})
	}
}

func TestDamageIsNotCutOff(t *testing.T) {
	source := t.TempDir()
	o := testOptions(source)
	o.SegmentBytes = minSegmentBytes
	l := openLog(t, o)
	appendAll(t, l, 0, 2500)
	closeLog(t, l)
	firsts, _, err := segmentNames(os.DirFS(source))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(firsts), 2)
	final := firsts[len(firsts)-1]

	for name, change := range map[string]func(dir string, text []byte) []byte{
		"a flipped bit": func(_ string, text []byte) []byte { text[len(text)/2] ^= 1; return text },
		"a line gone": func(_ string, text []byte) []byte {
			lines := splitLines(text)
			return joinLines(append(lines[:3:3], lines[4:]...))
		},
		"garbage with an end":       func(_ string, text []byte) []byte { return append(text, "garbage\n"...) },
		"zeros, then a whole line":  func(_ string, text []byte) []byte { return append(append(text, 0, 0, 0), splitLines(text)[3]...) },
		"the segment before is cut": func(dir string, text []byte) []byte { return cutLastLine(t, dir, firsts[len(firsts)-2], text) },
		"the segment before is gone": func(dir string, text []byte) []byte {
			before := filepath.Join(dir, segmentName(firsts[len(firsts)-2]))
			if len(firsts) > 2 {
				require.NoError(t, os.Remove(before))
			} else {
				require.NoError(t, os.WriteFile(before, []byte("x"), 0o600))
			}
			return text
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyFolder(t, source)
			path := filepath.Join(dir, segmentName(final))
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			changed := change(dir, text)
			require.NoError(t, os.WriteFile(path, changed, 0o600))
			_, err = Open(testOptions(dir))
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, dir)
			require.ErrorContains(t, err, "move this file")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, changed, after, "evidence is not touched")

			// The advice works.
			require.NoError(t, os.Remove(path))
			_, err = Open(testOptions(dir))
			require.ErrorIs(t, err, ErrCorrupt, "the records in it are missing, and the head says so")
			require.NoError(t, os.Rename(filepath.Join(dir, headFile), filepath.Join(dir, headLost)))
			l, err := Open(testOptions(dir))
			require.NoError(t, err)
			appendAll(t, l, 0, 3)
			closeLog(t, l)
			problems := problemsOf(t, dir)
			require.NotEmpty(t, problems, "verifying shows that something is missing")
			if !strings.HasPrefix(name, "the segment before") {
				require.Len(t, problems, 1)
				require.Equal(t, FlawHead, problems[0].Flaw)
			}
		})
	}
}

func cutLastLine(t *testing.T, dir string, first uint64, text []byte) []byte {
	t.Helper()
	path := filepath.Join(dir, segmentName(first))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := splitLines(before)
	require.NoError(t, os.WriteFile(path, joinLines(lines[:len(lines)-1]), 0o600))
	return text
}

func TestStrayFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "000001.jsonl"), nil, 0o600))
	_, err := Open(testOptions(dir))
	require.ErrorContains(t, err, "000001.jsonl")
	require.False(t, errors.Is(err, os.ErrNotExist))
}
