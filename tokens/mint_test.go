package tokens

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

func TestMintedClaimsStandInTheDocumentedOrder(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	require.JSONEq(t, w.header(), headerOf(t, token))
	require.Equal(t, `{"iss":"https://deputy.example.com","sub":"user@company.com",`+
		`"aud":["https://drive.example.com","https://gmail.example.com"],"client_id":"inbox-assistant",`+
		`"scope":"drive.read gmail.read","iat":1776427200,"exp":1776441600,`+
		`"jti":"`+parentSession[4:]+`","sid":"`+parentSession+`","act":{"sub":"inbox-assistant"},`+
		`"anc":["`+parentSession+`","`+delegation.ID+`","agt_inbox-assistant#417","usr_user@company.com#93","`+credential+`"],`+
		`"agent_type":"user-delegated"}`, payloadOf(t, token))
}

func headerOf(t *testing.T, token []byte) string {
	t.Helper()
	header, err := segment.DecodeString(string(token[:strings.IndexByte(string(token), '.')]))
	require.NoError(t, err)
	return string(header)
}

func TestAutonomousTokenHasTheAgentAsSubjectAndNoActor(t *testing.T) {
	w := newWorld(t)
	claims, err := w.verifier.Verify(w.mint(t, autonomous(t)))
	require.NoError(t, err)
	require.Equal(t, sorter.Name, claims.Subject)
	require.Empty(t, claims.Actors)
	require.Empty(t, claims.Principal())
	require.Equal(t, []string{drive}, claims.Audience)
	require.True(t, claims.HasAudience(drive))
	require.False(t, claims.HasAudience(gmail))
}

func TestHopKeepsTheSubjectAndEveryReasonToDie(t *testing.T) {
	for name, parent := range map[string]*policy.Grant{
		"for a user": delegated(t),
		"for nobody": grant(t, policy.Request{SessionID: parentSession, Agent: nightly, Requested: "drive.read"}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, err := w.verifier.Verify(w.mint(t, parent))
			require.NoError(t, err)

			second, err := w.verifier.Verify(w.mint(t, hop(t, first)))

			require.NoError(t, err)
			require.Equal(t, first.Subject, second.Subject)
			require.Equal(t, sorter.Name, second.ClientID)
			require.Equal(t, append([]string{sorter.Name}, first.Actors...), second.Actors)
			require.Subset(t, second.Handles(), first.Handles())
			require.Contains(t, second.Ancestry, identity.KeyHandle(w.signer.kid), "the key that signed the parent")
			require.Equal(t, first.Session().Chain, second.Session().Chain[:1])
		})
	}
}

var nightly = func() *identity.Agent {
	a := *sorter
	a.Name, a.Type, a.Generation = "nightly", identity.AgentScheduled, 77
	return &a
}()

func TestClaimsGiveBackTheSession(t *testing.T) {
	w := newWorld(t)
	for name, g := range map[string]*policy.Grant{"delegated": delegated(t), "autonomous": autonomous(t)} {
		t.Run(name, func(t *testing.T) {
			claims, err := w.verifier.Verify(w.mint(t, g))
			require.NoError(t, err)
			want := *g.Session()
			want.TriggerReason = ""
			want.Issued, want.Expires = want.Issued/1000*1000, want.Expires/1000*1000
			require.Equal(t, &want, claims.Session())
			require.Equal(t, g.Handles(), claims.Ancestry)
			require.Equal(t, append(g.Handles()[:len(g.Handles()):len(g.Handles())], identity.KeyHandle(w.signer.kid)), claims.Handles())
		})
	}
}

// A runtime asks with an API token for a session, and the agent hands on what it got.
func TestATokenThatAnAPITokenAskedForDiesWithIt(t *testing.T) {
	w := newWorld(t)
	run := grant(t, policy.Request{
		SessionID: parentSession, Agent: mailer, Principal: alice, Delegation: delegation, Credential: apiToken, Requested: "drive.read",
	})
	token := w.mint(t, run)
	first, err := w.verifier.Verify(token)
	require.NoError(t, err)
	require.Contains(t, first.Ancestry, identity.CredentialHandle(apiToken))
	require.Equal(t, apiToken, first.Session().Credential)

	next := w.mint(t, hop(t, first))
	second, err := w.verifier.Verify(next)
	require.NoError(t, err)
	require.Equal(t, apiToken, second.Session().Credential, "a hop without one of its own has its parent's")

	w.denied.handles = []identity.Handle{identity.CredentialHandle(apiToken)}
	for _, dead := range [][]byte{token, next} {
		_, err = w.verifier.Verify(dead)
		require.Equal(t, identity.CredentialHandle(apiToken), requireReason(t, err, ReasonRevoked).Handle)
	}
}

func TestTheCredentialOfASessionIsThatOfItsNewestHop(t *testing.T) {
	for name, asked := range map[string][2]string{"API token last": {credential, apiToken}, "credential last": {apiToken, credential}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, err := w.verifier.Verify(w.mint(t, grant(t, policy.Request{
				SessionID: parentSession, Agent: nightly, Credential: asked[0], Requested: "drive.read",
			})))
			require.NoError(t, err)
			second, err := w.verifier.Verify(w.mint(t, grant(t, policy.Request{
				SessionID: hopSession, Agent: sorter, Credential: asked[1], Requested: "drive.read",
				Parent: first.Session(), ParentHandles: first.Handles(),
			})))
			require.NoError(t, err)
			require.Equal(t, asked[1], second.Session().Credential)
		})
	}
}

func TestMintAppendsAndLeavesTheRestAlone(t *testing.T) {
	w := newWorld(t)
	g := autonomous(t)
	out, err := w.minter.Mint([]byte("Bearer "), g)
	require.NoError(t, err)
	token, ok := strings.CutPrefix(string(out), "Bearer ")
	require.True(t, ok)
	_, err = w.verifier.Verify([]byte(token))
	require.NoError(t, err)
}

func TestMintRefusesAGrantThatNoPolicyMade(t *testing.T) {
	w := newWorld(t)
	for _, g := range []*policy.Grant{nil, {}} {
		out, err := w.minter.Mint([]byte("x"), g)
		require.Equal(t, identity.CodeInternal, identity.CodeOf(err))
		require.ErrorContains(t, err, "BUG")
		require.Equal(t, "x", string(out))
	}
}

func TestMintNeedsAGoodKeyAndAnIssuer(t *testing.T) {
	w := newWorld(t)
	g := delegated(t)
	w.minter.SetSigner(nil)
	_, err := w.minter.Mint(nil, g)
	require.Equal(t, identity.CodeNotFresh, identity.CodeOf(err))

	w.minter.SetSigner(w.signer)
	w.issuer = ""
	_, err = w.minter.Mint(nil, g)
	require.Equal(t, identity.CodeNotFresh, identity.CodeOf(err))

	w.issuer = issuer
	w.denied.handles = []identity.Handle{identity.KeyHandle(w.signer.kid)}
	_, err = w.minter.Mint(nil, g)
	require.Equal(t, identity.CodeNotFresh, identity.CodeOf(err))
}

func TestMintRefusesEachRevokedHandle(t *testing.T) {
	w := newWorld(t)
	g := delegated(t)
	require.Len(t, g.Handles(), 5)
	for _, handle := range g.Handles() {
		w.denied.handles = []identity.Handle{handle}
		_, err := w.minter.Mint(nil, g)
		require.Equal(t, identity.CodeRevoked, identity.CodeOf(err), handle)
	}
}

func TestMintRefusesMoreClaimsThanATokenHolds(t *testing.T) {
	w := newWorld(t)
	wide := *sorter
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("%s%02d", strings.Repeat("s", 99), i))
	}
	wide.DefaultScopes = identity.Scopes(strings.Join(names, " "))
	g := grant(t, policy.Request{SessionID: parentSession, Agent: &wide})
	out, err := w.minter.Mint([]byte("x"), g)
	require.Equal(t, identity.CodeTooLarge, identity.CodeOf(err))
	require.Equal(t, "x", string(out))

	// The largest that fits, fits exactly.
	for n := 1; ; n++ {
		session := *autonomousSession(t)
		session.Scopes = identity.Scopes(strings.Join(names[:20], " ") + " t" + strings.Repeat("t", n))
		token, err := appendToken(nil, w.signer, issuer, &session, autonomousHandles(t))
		if err != nil {
			require.Equal(t, identity.CodeTooLarge, identity.CodeOf(err))
			break
		}
		require.LessOrEqual(t, len(token), MaxTokenBytes)
		if n < identity.MaxScopeLength {
			_, err = parse(token)
			require.NoError(t, err)
		}
	}
}

func autonomousSession(t testing.TB) *identity.Session {
	g := autonomous(t)
	return g.Session()
}

func autonomousHandles(t testing.TB) []identity.Handle {
	g := autonomous(t)
	return g.Handles()
}

func TestMintCatchesWhatOnlyABugCouldPass(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*identity.Session){
		"quote in the principal":  func(s *identity.Session) { s.Principal = `x","admin":"yes` },
		"escape in an audience":   func(s *identity.Session) { s.Audience = []string{`https://x/\u0022`} },
		"space in an audience":    func(s *identity.Session) { s.Audience = []string{"https://x y"} },
		"line break in a scope":   func(s *identity.Session) { s.Scopes = "a\nb" },
		"no chain":                func(s *identity.Session) { s.Chain = nil },
		"a chain too long":        func(s *identity.Session) { s.Chain = make([]identity.Actor, identity.MaxChain+1) },
		"no audience":             func(s *identity.Session) { s.Audience = nil },
		"another kind of id":      func(s *identity.Session) { s.ID = delegation.ID },
		"no lifetime":             func(s *identity.Session) { s.Expires = s.Issued },
		"more than the longest":   func(s *identity.Session) { s.Expires = s.Issued.Add(MaxLifetime) + 1000 },
		"a time before the epoch": func(s *identity.Session) { s.Issued = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			session := *autonomousSession(t)
			spoil(&session)
			out, err := appendToken([]byte("x"), w.signer, issuer, &session, autonomousHandles(t))
			require.Equal(t, identity.CodeInternal, identity.CodeOf(err))
			require.ErrorContains(t, err, "BUG")
			require.Equal(t, "x", string(out))
		})
	}
}

func TestMinterNeedsItsParts(t *testing.T) {
	_, err := NewMinter(MinterOptions{Issuer: func() string { return issuer }})
	require.ErrorContains(t, err, "Checker")
	_, err = NewMinter(MinterOptions{Checker: &denied{}})
	require.ErrorContains(t, err, "Issuer")
}

func TestMintAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	for name, g := range map[string]*policy.Grant{"delegated": delegated(t), "autonomous": autonomous(t)} {
		t.Run(name, func(t *testing.T) {
			room := make([]byte, 0, MaxTokenBytes)
			require.Zero(t, testing.AllocsPerRun(200, func() {
				if _, err := w.minter.Mint(room, g); err != nil {
					t.Fatal(err)
				}
			}))
		})
	}
}
