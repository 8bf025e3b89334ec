package client

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestWhatIsStoppedIsExportedPageByPage(t *testing.T) {
	var asked []string
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI())
		switch {
		case r.URL.Path == "/api/v1/agents" && r.URL.Query().Get("after") == "":
			w.Header().Set("Link", `</api/v1/agents?after=b>; rel="next"`)
			_, _ = io.WriteString(w, `[{"status":"active","handle":"agt_a#1"},{"status":"suspended","handle":"agt_b#2","updated_at":"2026-04-17T08:00:00.000Z"}]`)
		case r.URL.Path == "/api/v1/agents":
			_, _ = io.WriteString(w, `[{"status":"deactivated","handle":"agt_c#3"}]`)
		case r.URL.Path == "/api/v1/principals":
			_, _ = io.WriteString(w, `[{"status":"suspended","handle":"usr_u#4"},{"status":"active","handle":"usr_v#5"}]`)
		default:
			_, _ = io.WriteString(w, `[{"id":"dlg_1","status":"withdrawn","withdrawn_at":"2026-04-17T09:00:00.000Z"},{"id":"dlg_2","status":"active"}]`)
		}
	})
	c, _ := newClient(t, n.URL)
	var all []Stopped
	for s, err := range c.ExportStopped(t.Context()) {
		require.NoError(t, err)
		all = append(all, s)
	}
	require.Equal(t, []Stopped{
		{"agt_b#2", "the agent is suspended", 1_776_412_800_000},
		{"agt_c#3", "the agent is deactivated", 0},
		{"usr_u#4", "the principal is suspended", 0},
		{"dlg_1", "the delegation was withdrawn", 1_776_416_400_000},
	}, all)
	require.Equal(t, []string{
		"/api/v1/agents?limit=1000", "/api/v1/agents?after=b&limit=1000", "/api/v1/principals?limit=1000", "/api/v1/delegations?limit=1000",
	}, asked)

	asked = nil
	for range c.ExportStopped(t.Context()) {
		break
	}
	require.Len(t, asked, 1, "the rest is not asked for")
}

func TestAnExportThatBreaksOffSaysSo(t *testing.T) {
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/principals" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"type":"urn:deputy:problem:forbidden","title":"t","status":403,"detail":"the token has ended"}`)
			return
		}
		_, _ = io.WriteString(w, `[{"status":"suspended","handle":"agt_b#2"}]`)
	})
	c, _ := newClient(t, n.URL)
	var handles []identity.Handle
	var failed []error
	for s, err := range c.ExportStopped(t.Context()) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		handles = append(handles, s.Handle)
	}
	require.Equal(t, []identity.Handle{"agt_b#2"}, handles)
	require.Len(t, failed, 1, "it ends with the error")
	require.ErrorContains(t, failed[0], "the token has ended")
}
