package client

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestBackupIsSavedFromTheFirstNodeThatAnswers(t *testing.T) {
	content := strings.Repeat("0123456789", 1<<16)
	busy := newNode(t, problem(503, identity.CodeOverloaded, ""))
	up := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "SSWS dpt_secret", r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, content)
	})
	c, pauses := newClient(t, nowhere(t), busy.URL, up.URL)
	var saved bytes.Buffer
	size, err := c.SaveSnapshot(t.Context(), &saved)
	require.NoError(t, err)
	require.EqualValues(t, len(content), size)
	require.Equal(t, content, saved.String())
	require.Empty(t, *pauses)
}

func TestBackupThatBreaksOffIsNone(t *testing.T) {
	n := newNode(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Transfer-Encoding", "chunked")
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<16))
		_ = http.NewResponseController(w).Flush()
		breaks(w, nil)
	})
	c, _ := newClient(t, n.URL)
	_, err := c.SaveSnapshot(t.Context(), io.Discard)
	require.ErrorContains(t, err, "broke off")
	require.EqualValues(t, 1, n.asked.Load(), "what was written can't be taken back")
}

func TestBackupGoesToTheLeader(t *testing.T) {
	follower := newNode(t, problem(421, identity.CodeNotLeader, `,"hint":"ask n2"`))
	var got string
	leader := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.EqualValues(t, len(body), r.ContentLength)
		require.Equal(t, "application/octet-stream", r.Header.Get("Content-Type"))
		got = string(body)
		_, _ = fmt.Fprint(w, `{"backup_id":"abc","index":7}`)
	})
	c, _ := newClient(t, follower.URL, leader.URL)
	opened := 0
	open := func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader("backup")), nil
	}
	restored, err := c.RestoreSnapshot(t.Context(), open, 6)
	require.NoError(t, err)
	require.Equal(t, "abc", restored.BackupID)
	require.Equal(t, "backup", got)
	require.Equal(t, 2, opened)

	c, pauses := newClient(t, follower.URL)
	_, err = c.RestoreSnapshot(t.Context(), open, 6)
	require.Equal(t, identity.CodeNotLeader, identity.CodeOf(err))
	require.ErrorContains(t, err, "no")
	require.Len(t, *pauses, rounds-1, "it may come to lead")
}

func TestRefusedRestoreIsNotTriedElsewhere(t *testing.T) {
	no := newNode(t, problem(409, identity.CodeConflict, ""))
	other := newNode(t, ok(`{}`))
	c, _ := newClient(t, no.URL, other.URL)
	_, err := c.RestoreSnapshot(t.Context(), func() (io.ReadCloser, error) { return http.NoBody, nil }, -1)
	require.Equal(t, identity.CodeConflict, identity.CodeOf(err))
	require.Zero(t, other.asked.Load())
}
