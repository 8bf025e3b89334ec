package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/policy"
)

func newKey(t *testing.T) *client.Key {
	t.Helper()
	key, err := client.NewKey()
	require.NoError(t, err)
	return key
}

func show(scheme, token string, proofs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/tickets/7?full=true", nil)
	if scheme != "" {
		r.Header.Set("Authorization", scheme+" "+token)
	}
	for _, p := range proofs {
		r.Header.Add(wire.HeaderDPoP, p)
	}
	return r
}

func TestStolenBoundTokenIsWorthNothing(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	owner, thief := newKey(t), newKey(t)
	const base, url = "https://api.example.com/zendesk", "https://api.example.com/zendesk/tickets/7"
	began := time.Now()
	var ahead atomic.Int64
	now := func() time.Time { return began.Add(time.Duration(ahead.Load())) }
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, URLs: []string{base + "/"}, Now: now})
	ahead.Store(int64(2 * time.Second)) // a proof has whole seconds, and must not be from before the validator's start
	clock := now()
	bound := m.token(func(r *policy.Request) { r.Confirmation = owner.Thumbprint() })
	plain := m.token(nil)

	good := owner.Proof("GET", url, "", bound, clock)
	claims, err := v.ValidateRequest(show("DPoP", bound, good))
	require.NoError(t, err)
	require.Equal(t, owner.Thumbprint(), claims.Confirmation)
	_, err = v.ValidateRequest(show("bearer", plain))
	require.NoError(t, err)

	_, err = v.Validate(t.Context(), bound)
	refused(t, err, client.ReasonProof)
	fresh := func() string { return owner.Proof("GET", url, "", bound, clock) }
	for name, r := range map[string]*http.Request{
		"seen before":           show("DPoP", bound, good),
		"without a proof":       show("DPoP", bound),
		"with two":              show("DPoP", bound, fresh(), fresh()),
		"as a bearer":           show("Bearer", bound, fresh()),
		"by another key":        show("DPoP", bound, thief.Proof("GET", url, "", bound, clock)),
		"for another method":    show("DPoP", bound, owner.Proof("POST", url, "", bound, clock)),
		"for another URL":       show("DPoP", bound, owner.Proof("GET", base+"/tickets/8", "", bound, clock)),
		"for another host":      show("DPoP", bound, owner.Proof("GET", "https://other.example.com/zendesk/tickets/7", "", bound, clock)),
		"for another token":     show("DPoP", bound, owner.Proof("GET", url, "", plain, clock)),
		"from long ago":         show("DPoP", bound, owner.Proof("GET", url, "", bound, clock.Add(-time.Hour))),
		"from before the start": show("DPoP", bound, owner.Proof("GET", url, "", bound, clock.Add(-10*time.Second))),
		"not bound, as if":      show("DPoP", plain, owner.Proof("GET", url, "", plain, clock)),
		"the token as a proof":  show("DPoP", bound, bound),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.ValidateRequest(r)
			refused(t, err, client.ReasonProof)
		})
	}

	// Who was not told its own URLs can't hold a proof to them.
	v = ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Now: now})
	_, err = v.ValidateRequest(show("DPoP", bound, fresh()))
	refused(t, err, client.ReasonProof)
	_, err = v.ValidateShown(t.Context(), client.Shown{Scheme: "DPoP", Token: bound, Proofs: []string{owner.Proof("GET", url, "", bound, clock.Add(time.Second))}, Method: "GET", URLs: []string{url}})
	require.NoError(t, err)
}

func TestRequestMustShowOneToken(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	two := show("Bearer", m.token(nil))
	two.Header.Add("Authorization", "Bearer "+m.token(nil))
	for name, r := range map[string]*http.Request{
		"none": show("", ""), "two": two, "another scheme": show("Basic", "x"), "no token": show("Bearer", ""), "no scheme": show(m.token(nil), ""),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.ValidateRequest(r)
			refused(t, err, client.ReasonMissing)
		})
	}
}

// The example of the package's documentation.
func ExampleValidator_ValidateRequest() {
	nodes, err := client.New(client.Options{Addresses: []string{"https://deputy.example.com"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := client.NewValidator(client.ValidatorOptions{
		Client: nodes, Audience: "https://zendesk.example.com",
		Credentials: &client.Credentials{ID: "zendesk", Secret: "…"},
		URLs:        []string{"https://zendesk.example.com"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// go v.Run(ctx), and then in every handler:
	_, err = v.ValidateRequest(httptest.NewRequest("GET", "/", nil))
	fmt.Println(err)
	// Output: token refused: missing: the request must have one Authorization header, with an access token
}
