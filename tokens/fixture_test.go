package tokens

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const (
	issuer = "https://deputy.example.com"
	gmail  = "https://gmail.example.com"
	drive  = "https://drive.example.com"
	noon   = identity.Instant(1_776_427_200_123)
	person = "user@company.com"
)

// denied is a Checker that is told what to deny.
type denied struct {
	mu      sync.Mutex
	handles []identity.Handle
	asked   int
}

func (d *denied) Revoked(handles ...identity.Handle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	for _, h := range handles {
		if slices.Contains(d.handles, h) {
			return true
		}
	}
	return false
}

// world is one node with everything that tokens are made from and judged by.
type world struct {
	signer   *Signer
	keys     *Keyring
	denied   *denied
	now      identity.Instant
	issuer   string
	cache    *Cache
	minter   *Minter
	verifier *Verifier
}

func newWorld(t testing.TB) *world {
	t.Helper()
	// One key for all, so that seeds of the fuzz corpus stay the same from run to run.
	w := &world{signer: newSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))), denied: &denied{}, now: noon, issuer: issuer}
	w.keys = keyring(t, w.signer)
	w.cache = NewCache(64)
	var err error
	w.minter, err = NewMinter(MinterOptions{Issuer: func() string { return w.issuer }, Checker: w.denied, Cache: w.cache})
	require.NoError(t, err)
	w.minter.SetSigner(w.signer)
	w.verifier = w.newVerifier(t, w.cache)
	return w
}

func (w *world) newVerifier(t testing.TB, cache *Cache) *Verifier {
	t.Helper()
	v, err := NewVerifier(VerifierOptions{
		Keys: func() *Keyring { return w.keys }, Checker: w.denied, Issuer: func() string { return w.issuer },
		Now: func() identity.Instant { return w.now }, Cache: cache,
	})
	require.NoError(t, err)
	return v
}

func (w *world) mint(t testing.TB, g *policy.Grant) []byte {
	t.Helper()
	token, err := w.minter.Mint(nil, g)
	require.NoError(t, err)
	return token
}

func keyring(t testing.TB, signers ...*Signer) *Keyring {
	t.Helper()
	var keys []identity.SigningKey
	for _, s := range signers {
		keys = append(keys, s.SigningKey("n1", noon))
	}
	k, err := NewKeyring(keys)
	require.NoError(t, err)
	return k
}

// sign makes a token of any header and payload.
func (w *world) sign(header, payload string) []byte {
	return w.signSegments(encode(header), encode(payload))
}

func (w *world) signSegments(header, payload string) []byte {
	signed := header + "." + payload
	return []byte(signed + "." + encode(string(ed25519.Sign(w.signer.private, []byte(signed)))))
}

func (w *world) header() string {
	return `{"alg":"EdDSA","kid":"` + w.signer.kid + `","typ":"at+jwt"}`
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func payloadOf(t testing.TB, token []byte) string {
	t.Helper()
	parts := slices.Collect(splitDots(string(token)))
	require.Len(t, parts, 3)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	return string(payload)
}

func splitDots(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start := 0
		for i := range len(s) + 1 {
			if i == len(s) || s[i] == '.' {
				if !yield(s[start:i]) {
					return
				}
				start = i + 1
			}
		}
	}
}

// The cast: an agent that reads mail for people, one that sorts files by itself, and two applications.
var (
	mailer = &identity.Agent{
		Name: "inbox-assistant", Type: identity.AgentUserDelegated, DefaultScopes: "drive.read gmail.draft gmail.read",
		MaxSessionSeconds: 14400, Applications: []string{"drive", "gmail"}, Status: identity.StatusActive, Generation: 417,
	}
	sorter = &identity.Agent{
		Name: "file-sorter", Type: identity.AgentAutonomous, DefaultScopes: "drive.read gmail.read",
		MaxSessionSeconds: 3600, Applications: []string{"drive", "gmail"}, Status: identity.StatusActive, Generation: 9,
	}
	alice      = &identity.Principal{ID: person, Status: identity.StatusActive, Generation: 93}
	delegation = &identity.Delegation{
		ID: id(identity.PrefixDelegation, 1), Principal: person, Agent: mailer.Name, Scopes: "drive.read gmail.draft gmail.read",
		Expires: noon + 7*86400_000, MaxHops: 2, Status: identity.DelegationActive,
	}
	parentSession = id(identity.PrefixSession, 2)
	hopSession    = id(identity.PrefixSession, 3)
	credential    = id(identity.PrefixCredential, 4)
	apiToken      = id(identity.PrefixAPIToken, 5)
)

func id(prefix string, n byte) string { return identity.NewID(prefix, noon, [10]byte{9: n}) }

type applications struct{}

var registered = []*identity.Application{
	{Name: "gmail", Audience: gmail, Scopes: "gmail.draft gmail.read", Verification: identity.VerifyOnline},
	{Name: "drive", Audience: drive, Scopes: "drive.read", Verification: identity.VerifyOnline},
}

func find(match func(*identity.Application) bool) (*identity.Application, bool) {
	if i := slices.IndexFunc(registered, match); i >= 0 {
		return registered[i], true
	}
	return nil, false
}

func (applications) Application(name string) (*identity.Application, bool) {
	return find(func(a *identity.Application) bool { return a.Name == name })
}

func (applications) ApplicationByAudience(uri string) (*identity.Application, bool) {
	return find(func(a *identity.Application) bool { return a.Audience == uri })
}

func (applications) ApplicationOwning(scope string) (*identity.Application, bool) {
	return find(func(a *identity.Application) bool { return a.Scopes.Contains(scope) })
}

func grant(t testing.TB, r policy.Request) *policy.Grant {
	t.Helper()
	r.Now, r.Applications, r.Issuer, r.SourceIP = noon, applications{}, issuer, netip.IPv6Loopback()
	g := new(policy.Grant)
	require.NoError(t, policy.NewEngine().Decide(&r, g))
	return g
}

// delegated is a run of the mailer for Alice.
func delegated(t testing.TB) *policy.Grant {
	t.Helper()
	return grant(t, policy.Request{
		SessionID: parentSession, Agent: mailer, Principal: alice, Delegation: delegation, Credential: credential,
		Requested: "drive.read gmail.read", TriggerReason: "user clicked 'summarize inbox'",
	})
}

// autonomous is a run of the sorter for nobody.
func autonomous(t testing.TB) *policy.Grant {
	t.Helper()
	return grant(t, policy.Request{SessionID: parentSession, Agent: sorter, Credential: credential, Requested: "drive.read"})
}

// hop is the sorter, called by an agent with that token.
func hop(t testing.TB, parent *Claims) *policy.Grant {
	t.Helper()
	r := policy.Request{
		SessionID: hopSession, Agent: sorter, Requested: "drive.read",
		Parent: parent.Session(), ParentHandles: parent.Handles(),
	}
	if parent.Principal() != "" {
		r.Principal, r.Delegation = alice, delegation
	}
	return grant(t, r)
}

func requireReason(t testing.TB, err error, reason Reason) *VerifyError {
	t.Helper()
	var refused *VerifyError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, reason, refused.Reason, refused.Detail)
	return refused
}

// nobody is a Checker that costs nothing, so that benchmarks show this package alone.
type nobody struct{}

func (nobody) Revoked(...identity.Handle) bool { return false }
