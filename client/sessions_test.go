package client

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

func TestPageOfSessionsSaysWhatItLacks(t *testing.T) {
	var asked string
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		w.Header().Set("Link", `</api/v1/sessions?after=ses_2&limit=2>; rel="next"`)
		_, _ = io.WriteString(w, `{"sessions":[],"complete":false,"nodes":[{"id":"n2","replied":false,"error":"it did not answer"}]}`)
	})
	c, _ := newClient(t, n.URL)
	p, err := c.Sessions(t.Context(), SessionFilter{Agent: "a", Principal: "u@x", Active: true}, List{Limit: 2, After: "ses_1"})
	require.NoError(t, err)
	require.Equal(t, "/api/v1/sessions?active=true&after=ses_1&agent=a&limit=2&principal=u%40x", asked)
	require.Empty(t, p.Items)
	require.Equal(t, "ses_2", p.Next, "an empty page need not be the last")
	require.False(t, p.Complete)
	require.Equal(t, []wire.SessionNode{{ID: "n2", Error: "it did not answer"}}, p.Nodes)
}

func TestEndOfSessionsIsAskedForAgainWhereItsAnswerIsLost(t *testing.T) {
	for name, end := range map[string]func(*Client) error{
		"one": func(c *Client) error {
			_, err := c.EndSession(t.Context(), "ses_1", "r")
			return err
		},
		"all": func(c *Client) error {
			_, err := c.EndSessionsOf(t.Context(), SessionFilter{Agent: "a"}, "r", Fenced(0))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			lost, n := newNode(t, breaks), newNode(t, ok(`{"committed":true}`))
			c, _ := newClient(t, lost.URL, n.URL)
			require.NoError(t, end(c))
			require.EqualValues(t, 1, n.asked.Load())
			require.Empty(t, <-n.keys, "nothing may suppress a stop")
		})
	}
}
