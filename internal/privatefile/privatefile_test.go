package privatefile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/privatefile"
)

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	return string(text)
}

func TestReplaceLeavesOnlyTheNewContentForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers.json")
	require.NoError(t, os.WriteFile(path, []byte("old, and readable by all"), 0o644))

	require.NoError(t, privatefile.Replace(path, []byte("new")))
	require.Equal(t, "new", content(t, path))
	alone(t, path)
}

func TestCreateNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	require.NoError(t, privatefile.Create(path, []byte("first")))
	require.ErrorIs(t, privatefile.Create(path, []byte("second")), fs.ErrExist)
	require.Equal(t, "first", content(t, path))
	alone(t, path)
}

func TestMissingFolderIsAnErrorThatNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "file")
	require.ErrorIs(t, privatefile.Replace(path, nil), fs.ErrNotExist)
	require.ErrorContains(t, privatefile.Create(path, nil), path)
}

// alone wants no draft left behind.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}
