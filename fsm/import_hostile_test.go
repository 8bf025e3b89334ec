package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// importing is a fresh cluster whose restore has begun, of a backup up to generation 100.
func importing(t testing.TB) *machine {
	t.Helper()
	m := fresh(t)
	require.Nil(t, m.do(BeginRestore{Backup: BackupHeader{Time: epoch, Generation: 100, Settings: *m.fsm.View().Settings()}}).Err)
	return m
}

func importOf(number section, values ...any) Import {
	i := Import{Section: uint8(number)}
	for _, v := range values {
		data, err := marshal(v)
		if err != nil {
			panic(err)
		}
		i.Records = append(i.Records, data...)
	}
	return i
}

func wiredAgent(name string, credentials ...string) *wireAgent {
	a := testAgent(name)
	a.Generation, a.Status = 5, identity.StatusActive
	for _, id := range credentials {
		a.Credentials = append(a.Credentials, identity.Credential{ID: id, Kind: identity.CredentialSecret, Hash: secret(1)})
	}
	return &wireAgent{Agent: &a, Born: 4}
}

func wiredPrincipal(id string) *wirePrincipal {
	return &wirePrincipal{Principal: &identity.Principal{ID: id, Generation: 7, Status: identity.StatusActive}, Born: 6}
}

func wiredDelegation(n uint64, principal, agent string) *wireRecord {
	d := testDelegation(n, principal, agent)
	w := &wireRecord{
		ID: make([]byte, 16), Agent: agent, Principal: principal, Scopes: string(d.Scopes), Created: d.Created,
		Expires: epoch.Add(100 * time.Hour), Made: 9, MaxHops: 1,
	}
	binary.BigEndian.PutUint64(w.ID[8:], n)
	return w
}

func wiredToken(n int, hash []byte) *identity.APIToken {
	return &identity.APIToken{ID: testID(identity.PrefixAPIToken, uint64(n)), Name: "t", Hash: hash, Roles: []identity.Role{identity.RoleAuditor}}
}

func application(name, audience string, scopes identity.Scopes) *identity.Application {
	return &identity.Application{Name: name, Audience: audience, Scopes: scopes, Verification: identity.VerifyOnline}
}

func tooManyPolicies() []any {
	list := make([]any, identity.MaxPolicies+1)
	for i := range list {
		list[i] = &identity.Policy{ID: fmt.Sprintf("p%04d", i), Text: "x", Mode: identity.PolicyOff}
	}
	return list
}

// TestAHostileRecordIsRefusedByApplyAlone: even where nobody inspected the backup, a record that would break a table
// or a bound is refused, with the whole import, and the state is as it was.
func TestAHostileRecordIsRefusedByApplyAlone(t *testing.T) {
	crd := func(n uint64) string { return testID(identity.PrefixCredential, n) }
	change := func(w *wireAgent, f func(*wireAgent)) *wireAgent { f(w); return w }
	changeP := func(w *wirePrincipal, f func(*wirePrincipal)) *wirePrincipal { f(w); return w }
	many := make([]string, identity.MaxCredentials+1)
	for i := range many {
		many[i] = crd(uint64(i + 10))
	}
	young := wiredDelegation(1, "p@x", "a")
	young.Made = 101
	short := wiredDelegation(1, "p@x", "a")
	short.ID = short.ID[:3]
	for name, i := range map[string]Import{
		"nothing":                   importOf(sectionAgents),
		"no agent":                  importOf(sectionAgents, &wireAgent{}),
		"nil records":               {Section: uint8(sectionAgents), Records: bytes.Repeat([]byte{0xc0}, 100)},
		"no principal":              importOf(sectionPrincipals, &wirePrincipal{}),
		"out of order":              importOf(sectionAgents, wiredAgent("b"), wiredAgent("a")),
		"twice":                     importOf(sectionAgents, wiredAgent("a"), wiredAgent("a")),
		"an agent not born":         importOf(sectionAgents, change(wiredAgent("a"), func(w *wireAgent) { w.Born = 0 })),
		"born after it lived":       importOf(sectionAgents, change(wiredAgent("a"), func(w *wireAgent) { w.Born = 6 })),
		"a generation to come":      importOf(sectionAgents, change(wiredAgent("a"), func(w *wireAgent) { w.Agent.Generation = 101 })),
		"no status":                 importOf(sectionAgents, change(wiredAgent("a"), func(w *wireAgent) { w.Agent.Status = "alive" })),
		"a credential of two":       importOf(sectionAgents, wiredAgent("a", crd(1)), wiredAgent("b", crd(1))),
		"a credential twice":        importOf(sectionAgents, wiredAgent("a", crd(1), crd(1))),
		"a credential without id":   importOf(sectionAgents, wiredAgent("a", "")),
		"too many credentials":      importOf(sectionAgents, wiredAgent("a", many...)),
		"a principal not born":      importOf(sectionPrincipals, changeP(wiredPrincipal("p"), func(w *wirePrincipal) { w.Born = 0 })),
		"killed in times to come":   importOf(sectionPrincipals, changeP(wiredPrincipal("p"), func(w *wirePrincipal) { w.Killed = 101 })),
		"a principal of no status":  importOf(sectionPrincipals, changeP(wiredPrincipal("p"), func(w *wirePrincipal) { w.Principal.Status = "" })),
		"an audience of two":        importOf(sectionApplications, application("a", "https://a", ""), application("b", "https://a", "")),
		"an audience of none":       importOf(sectionApplications, application("a", "", "")),
		"a scope of two":            importOf(sectionApplications, application("a", "https://a", "x"), application("b", "https://b", "x")),
		"a delegation to come":      importOf(sectionDelegations, young),
		"a short id":                importOf(sectionDelegations, short),
		"no delegation":             importOf(sectionDelegations, "x"),
		"a bar of nobody":           importOf(sectionBars, &wireBar{Principal: "p", Agent: "b"}, &wireBar{Principal: "p", Agent: "a"}),
		"no handle":                 importOf(sectionRevocations, &identity.Revocation{}),
		"a long handle":             importOf(sectionRevocations, &identity.Revocation{Handle: identity.Handle(strings.Repeat("x", 1000))}),
		"the last generation":       importOf(sectionRevocations, &identity.Revocation{Handle: "agt_a#18446744073709551615"}),
		"two tokens, one secret":    importOf(sectionAPITokens, wiredToken(5, secret(1)), wiredToken(6, secret(1))),
		"a token without a secret":  importOf(sectionAPITokens, wiredToken(5, nil)),
		"a token without an id":     importOf(sectionAPITokens, &identity.APIToken{Hash: secret(1)}),
		"a policy without an id":    importOf(sectionPolicies, &identity.Policy{Text: "x"}),
		"policies out of order":     importOf(sectionPolicies, &identity.Policy{ID: "b"}, &identity.Policy{ID: "a"}),
		"too many policies":         importOf(sectionPolicies, tooManyPolicies()...),
		"another section":           importOf(sectionSigningKeys, &identity.SigningKey{KID: "k", Public: secret(1)}),
		"a field of a newer build":  importOf(sectionBars, map[string]any{"p": "p@x", "a": "a", "hunter2": 1}),
		"bytes":                     {Section: uint8(sectionBars), Records: []byte{0xc1}},
		"a length that is promised": {Section: uint8(sectionBars), Records: []byte{0xdf, 0xff, 0xff, 0xff, 0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			m := importing(t)
			before := m.fsm.View()
			r := m.do(i)
			require.NotNil(t, r.Err)
			require.Contains(t, []identity.Code{identity.CodeInvalid, identity.CodeAlreadyExists, identity.CodeLimitReached}, r.Err.Code)
			require.NotContains(t, r.Err.Message, "hunter2")
			after := m.fsm.View()
			require.Equal(t, before.Counts(), after.Counts())
			require.Same(t, before.restoring, after.restoring)
			require.Equal(t, m.snapshot(), m.restored().snapshot())
		})
	}
}

// TestNothingIsImportedThatAnotherImportBrought: names by their order, everything else by the tables.
func TestNothingIsImportedThatAnotherImportBrought(t *testing.T) {
	m := importing(t)
	crd := testID(identity.PrefixCredential, 1)
	must1[*Imported](m, importOf(sectionAgents, wiredAgent("b", crd)))
	m.refused(identity.CodeConflict, importOf(sectionAgents, wiredAgent("b")))
	m.refused(identity.CodeConflict, importOf(sectionAgents, wiredAgent("a")))
	m.refused(identity.CodeInvalid, importOf(sectionAgents, wiredAgent("c", crd)))
	must1[*Imported](m, importOf(sectionPrincipals, wiredPrincipal("p@x")))
	m.refused(identity.CodeConflict, importOf(sectionAgents, wiredAgent("d")))
	must1[*Imported](m, importOf(sectionApplications, application("a", "https://a", "x")))
	m.refused(identity.CodeAlreadyExists, importOf(sectionApplications, application("b", "https://a", "")))
	m.refused(identity.CodeAlreadyExists, importOf(sectionApplications, application("b", "https://b", "x")))
	must1[*Imported](m, importOf(sectionAPITokens, wiredToken(5, secret(5))))
	m = m.restored()
	m.refused(identity.CodeInvalid, importOf(sectionAPITokens, wiredToken(6, secret(5))))

	m.refused(identity.CodeConflict, EndRestore{Records: 3})
	m.refused(identity.CodeConflict, EndRestore{Records: 5})
	require.Equal(t, &Imported{Records: 4}, must1[*Imported](m, EndRestore{Records: 4}))
}

// TestThisClustersOwnTokensStay: a backup can't take the place of the token that restores it.
func TestThisClustersOwnTokensStay(t *testing.T) {
	m := importing(t)
	root := testID(identity.PrefixAPIToken, 2)
	same := wiredToken(2, secret(77))
	must1[*Imported](m, importOf(sectionAPITokens, same, wiredToken(3, secret(903)), wiredToken(4, secret(78))))
	v := m.fsm.View()
	token, ok := v.APITokenByHash([32]byte(secret(903)))
	require.True(t, ok)
	require.Equal(t, root, token.ID)
	require.True(t, token.Has(identity.RoleAdmin))
	_, ok = v.APITokenByHash([32]byte(secret(77)))
	require.False(t, ok)
	require.Equal(t, 2, v.Counts().APITokens)

	// Starting over drops what was imported, and no other token.
	other := must1[*identity.APIToken](m, CreateAPIToken{identity.APIToken{ID: testID(identity.PrefixAPIToken, 9), Name: "x", Hash: secret(9)}})
	require.Nil(t, m.do(BeginRestore{Backup: BackupHeader{Generation: 1}}).Err)
	v = m.fsm.View()
	_, ok = v.APIToken(other.ID)
	require.True(t, ok)
	_, ok = v.APIToken(root)
	require.True(t, ok)
	_, ok = v.APIToken(testID(identity.PrefixAPIToken, 4))
	require.False(t, ok)
}

func TestImportsKeepTheBoundsOfWrites(t *testing.T) {
	m := importing(t)
	must1[*Imported](m, importOf(sectionAgents, wiredAgent("a")))
	must1[*Imported](m, importOf(sectionPrincipals, wiredPrincipal("p@x")))
	first, second := []any{}, []any{}
	for n := range uint64(MaxPairDelegations + 1) {
		w := wiredDelegation(n, "p@x", "a")
		if n < 100 {
			first = append(first, w)
		} else {
			second = append(second, w)
		}
	}
	must1[*Imported](m, importOf(sectionDelegations, first...))
	m.refused(identity.CodeLimitReached, importOf(sectionDelegations, second...))
	must1[*Imported](m, importOf(sectionDelegations, second[1:]...))
	require.Equal(t, MaxPairDelegations, m.fsm.View().CountDelegations("a", "p@x", epoch))

	dead := wiredDelegation(9000, "p@x", "a")
	dead.Made = 3 // of an agent that had the name before
	nobody := wiredDelegation(9001, "q@x", "a")
	must1[*Imported](m, importOf(sectionDelegations, dead, nobody))
	require.Equal(t, MaxPairDelegations, m.fsm.View().Counts().Delegations, "what belonged to a predecessor is not taken")
	must1[*Imported](m, importOf(sectionBars,
		&wireBar{Principal: "p@x", Agent: "a", Made: 5, Barred: true}, &wireBar{Principal: "p@x", Agent: "b", Made: 9, Barred: true},
		&wireBar{Principal: "q@x", Agent: "b", Made: 9, Barred: true}))
	require.False(t, m.fsm.View().ConsentBarred("a", "p@x"), "a bar of a principal that had the id before")
	require.True(t, m.fsm.View().ConsentBarred("b", "p@x"))
	require.False(t, m.fsm.View().ConsentBarred("b", "q@x"))

	m.fsm.state.restoring.APITokens = make([]string, MaxAPITokens)
	m.refused(identity.CodeLimitReached, importOf(sectionAPITokens, wiredToken(5, secret(5))))

	tiny := make([]any, maxImportRecords+1)
	for i := range tiny {
		tiny[i] = &identity.Revocation{Handle: identity.Handle(fmt.Sprintf("%06d", i))}
	}
	err := importing(t).refused(identity.CodeInvalid, importOf(sectionRevocations, tiny...))
	require.Contains(t, err.Message, "more than")
}

// TestAnImportedRevocationIsInForceAtOnce: also where it names this cluster's own.
func TestAnImportedRevocationIsInForceAtOnce(t *testing.T) {
	m := importing(t)
	must1[*Revoked](m, Revoke{Handles: []identity.Handle{"ses_a"}, Reason: "ours"})
	until := mustRevocation(t, m.fsm.View(), "ses_a").Expires
	must1[*Imported](m, importOf(sectionRevocations,
		&identity.Revocation{Handle: "key_k-new", Expires: 1},
		&identity.Revocation{Handle: "ses_a", Reason: "theirs", Expires: until + 1},
		&identity.Revocation{Handle: "ses_b", Expires: 1 << 62}))
	for _, h := range []identity.Handle{"key_k-new", "ses_a", "ses_b"} {
		require.True(t, m.set.Revoked(h))
	}
	v := m.fsm.View()
	require.Empty(t, v.SigningKeys(), "a key that was stolen signs here no more either")
	require.Equal(t, endOfTime, mustRevocation(t, v, "key_k-new").Expires)
	require.Equal(t, endOfTime, mustRevocation(t, v, "ses_b").Expires)
	require.Equal(t, "ours", mustRevocation(t, v, "ses_a").Reason)
	require.Equal(t, until+1, mustRevocation(t, v, "ses_a").Expires)
	require.Nil(t, m.do(BeginRestore{}).Err)
	require.True(t, m.set.Revoked("ses_b"))
	require.Equal(t, 3, m.fsm.View().Counts().Revocations, "to start over takes no revocation away")
}

func TestABackupThatCannotBeIsNotBegun(t *testing.T) {
	m := fresh(t)
	m.refused(identity.CodeInvalid, BeginRestore{Backup: BackupHeader{Generation: maxGeneration + 1}})
	m.refused(identity.CodeInvalid, BeginRestore{Backup: BackupHeader{Time: endOfTime}})
	require.Nil(t, m.do(BeginRestore{Backup: BackupHeader{Time: m.now.Add(maxSkew), Generation: maxGeneration}}).Err)
	require.Equal(t, m.now.Add(maxSkew), m.fsm.View().Time())
	must1[*Imported](m, EndRestore{})
	require.Greater(t, must1[*identity.Agent](m, CreateAgent{testAgent("a")}).Generation, uint64(maxGeneration))
}

// TestABackupIsReadStrictly: what a file may hold is less than what Apply would take.
func TestABackupIsReadStrictly(t *testing.T) {
	header := BackupHeader{Index: 1, Time: epoch, Generation: 100, Settings: identity.Settings{
		ClusterID: "c", Issuer: "https://id.example", OfflineTTLSeconds: 300, LeaseMillis: 10_000,
	}}
	file := func(write func(w *frameWriter)) []byte {
		var out bytes.Buffer
		w := newFrameWriter(&out)
		w.raw(binary.BigEndian.AppendUint16([]byte(backupMagic), backupVersion))
		write(w)
		require.NoError(t, w.end())
		return out.Bytes()
	}
	with := func(number section, values ...any) []byte {
		return file(func(w *frameWriter) {
			w.section(sectionMeta)
			w.record(&header)
			w.section(number)
			for _, v := range values {
				w.record(v)
			}
		})
	}
	_, err := InspectBackup(bytes.NewReader(with(sectionAgents, wiredAgent("a", testID(identity.PrefixCredential, 1)))))
	require.NoError(t, err)

	badIssuer, badCounter := header, header
	badIssuer.Settings.Issuer, badCounter.Generation = "x", maxGeneration+1
	badHash := wiredAgent("a", testID(identity.PrefixCredential, 1))
	badHash.Agent.Credentials[0].Hash = []byte("short")
	badName, badPrincipal := wiredAgent("A B"), wiredPrincipal("a b")
	unborn, unbornPrincipal := wiredAgent("a"), wiredPrincipal("a")
	unborn.Born, unbornPrincipal.Born = 0, 0
	tooMany := wiredAgent("a")
	tooMany.Agent.Credentials = make([]identity.Credential, identity.MaxCredentials+1)
	young, forEver := wiredDelegation(1, "p@x", "a"), wiredDelegation(1, "p@x", "a")
	young.Made, forEver.Expires = 101, endOfTime
	roleless := wiredToken(1, secret(1))
	roleless.Roles = []identity.Role{"emperor"}
	for name, data := range map[string][]byte{
		"no header":              file(func(*frameWriter) {}),
		"agents before it":       file(func(w *frameWriter) { w.emit(sectionAgents, importOf(sectionAgents, wiredAgent("a")).Records) }),
		"no header in its frame": file(func(w *frameWriter) { w.emit(sectionMeta, nil) }),
		"a header of a snapshot": file(func(w *frameWriter) { w.section(sectionMeta); w.record(&wireMeta{Index: 1}) }),
		"two headers":            file(func(w *frameWriter) { w.section(sectionMeta); w.record(&header); w.record(&header) }),
		"two headers, two frames": file(func(w *frameWriter) {
			w.section(sectionMeta)
			w.record(&header)
			w.section(sectionMeta)
			w.record(&header)
		}),
		"bad settings":   file(func(w *frameWriter) { w.section(sectionMeta); w.record(&badIssuer) }),
		"bad counter":    file(func(w *frameWriter) { w.section(sectionMeta); w.record(&badCounter) }),
		"an empty frame": file(func(w *frameWriter) { w.section(sectionMeta); w.record(&header); w.flush(); w.emit(sectionAgents, nil) }),
		"frames out of order": file(func(w *frameWriter) {
			w.section(sectionMeta)
			w.record(&header)
			for _, name := range []string{"b", "a"} {
				w.section(sectionAgents)
				w.record(wiredAgent(name))
			}
		}),
		"records out of order":   with(sectionAgents, wiredAgent("b"), wiredAgent("a")),
		"a huge frame":           with(sectionAgents, wiredAgent("a"), &wireAgent{Agent: &identity.Agent{Name: "b", Description: strings.Repeat("x", maxImport)}}),
		"members":                with(sectionMembers, &identity.Member{ID: "n1", Key: secret(1)}),
		"signing keys":           with(sectionSigningKeys, &identity.SigningKey{KID: "k", Public: secret(1)}),
		"receipts":               with(sectionInternalReceipts, &wireReceipt{}),
		"a name that can't be":   with(sectionAgents, badName),
		"a hash that can't be":   with(sectionAgents, badHash),
		"too many credentials":   with(sectionAgents, tooMany),
		"an agent not born":      with(sectionAgents, unborn),
		"a principal not born":   with(sectionPrincipals, unbornPrincipal),
		"an id that can't be":    with(sectionPrincipals, badPrincipal),
		"an audience of none":    with(sectionApplications, application("a", "", "")),
		"a young delegation":     with(sectionDelegations, young),
		"an endless delegation":  with(sectionDelegations, forEver),
		"a bar to come":          with(sectionBars, &wireBar{Principal: "p", Agent: "a", Made: 101}),
		"a bar of nobody":        with(sectionBars, &wireBar{Principal: "p p", Agent: "a"}),
		"a long handle":          with(sectionRevocations, &identity.Revocation{Handle: identity.Handle(strings.Repeat("x", 1000))}),
		"a token with a bad id":  with(sectionAPITokens, &identity.APIToken{ID: "tok_1", Hash: secret(1)}),
		"a token of a bad role":  with(sectionAPITokens, roleless),
		"a token of a short key": with(sectionAPITokens, wiredToken(1, []byte("x"))),
	} {
		_, err := ReadBackup(bytes.NewReader(data), func(b Body) error {
			_, ended := b.(EndRestore)
			require.False(t, ended, name)
			return nil
		})
		require.ErrorIs(t, err, ErrSnapshotCorrupt, name)
	}
	stopped := io.ErrClosedPipe
	for n := range 3 {
		_, err := ReadBackup(bytes.NewReader(with(sectionAgents, wiredAgent("a"))), func(Body) error {
			if n--; n < 0 {
				return stopped
			}
			return nil
		})
		require.ErrorIs(t, err, stopped)
	}
}
