package archtest

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	makeTarget   = regexp.MustCompile("(?:`|    )make ([a-z-]+)")
	namedFile    = regexp.MustCompile("`((?:[a-z]+/)+[a-z_]+\\.(?:go|yaml|service|md|mod))`")
)

// A manual that names a file or a command which is not there has begun to lie.
func TestManualsNameWhatIsThere(t *testing.T) {
	root := os.DirFS("../..")
	makefile, err := fs.ReadFile(root, "Makefile")
	require.NoError(t, err)
	manuals := 0
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".md") {
			return nil
		}
		manuals++
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		for _, link := range markdownLink.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := fs.Stat(root, path.Join(path.Dir(name), link[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, link[1])
			}
		}
		for _, file := range namedFile.FindAllStringSubmatch(string(text), -1) {
			if _, err := fs.Stat(root, file[1]); err != nil {
				t.Errorf("%s names %s, which is not there", name, file[1])
			}
		}
		for _, target := range makeTarget.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains("\n"+string(makefile), "\n"+target[1]+":") {
				t.Errorf("%s says `make %s`, which is no target", name, target[1])
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, manuals, 5)
}
