package report

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWritePages(t *testing.T) {
	dir := os.Getenv("PAGES")
	if dir == "" {
		t.Skip()
	}
	f, err := os.Create(filepath.Join(dir, "failover.html"))
	require.NoError(t, err)
	require.NoError(t, HTML(f, failover(t)))
	f, err = os.Create(filepath.Join(dir, "search.html"))
	require.NoError(t, err)
	require.NoError(t, HTML(f, search(t)))
	require.NoError(t, Table(os.Stdout, search(t)))
	require.NoError(t, Markdown(os.Stdout, 3, failover(t)))
}
