package fsm

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// samples is a command of each type, with fields set.
func samples() []Command {
	agent := testAgent("triage")
	agent.Labels = map[string]string{"b": "2", "a": "1", "c": "3"}
	owner := Owner{OwnerAgent, "triage"}
	bodies := []Body{
		Tick{},
		Purge{},
		PutSettings{identity.Settings{ClusterID: "c1", Issuer: "https://id.example", GossipKeys: [][]byte{secret(1)}}},
		CreateAgent{agent},
		UpdateAgent{Agent: agent, IfRevision: 3},
		SetAgentStatus{Name: "triage", Status: identity.StatusSuspended, Reason: "INC-42"},
		KillAgent{Name: "triage", KeepActive: true},
		DeleteAgent{Name: "triage"},
		AddCredential{owner, identity.Credential{ID: testID("crd_", 1), Kind: identity.CredentialSecret, Hash: secret(2)}},
		RemoveCredential{Owner: owner, ID: testID("crd_", 1)},
		CreatePrincipal{identity.Principal{ID: "ann@x", Groups: []string{"a", "b"}}},
		UpdatePrincipal{Principal: identity.Principal{ID: "ann@x"}, IfRevision: 1},
		SetPrincipalStatus{ID: "ann@x", Status: identity.StatusActive},
		KillPrincipal{ID: "ann@x", Reason: "phished"},
		KillPrincipal{ID: "ann@x", KeepActive: true, KeepConsent: true},
		DeletePrincipal{ID: "ann@x"},
		CreateApplication{identity.Application{Name: "gmail", Audience: "https://gmail.example", Scopes: "a b"}},
		UpdateApplication{Application: identity.Application{Name: "gmail"}},
		DeleteApplication{Name: "gmail"},
		CreateDelegation{Delegation: testDelegation(1, "ann@x", "triage"), EnsurePrincipal: true, Regrant: true},
		WithdrawDelegation{ID: delegationID(1)},
		Revoke{Handles: []identity.Handle{"agt_triage#1", "key_k1"}, Reason: "stolen"},
		apiToken(1, identity.RoleAdmin),
		DeleteAPIToken{ID: "tok_1"},
		CreateJoinToken{identity.JoinToken{ID: "jtk_1", Hash: secret(3), Expires: epoch}},
		AdmitMember{Member: identity.Member{ID: "n1", Key: secret(4)}, JoinTokenHash: secret(3)},
		UpdateMember{identity.Member{ID: "n1", ClusterAddr: "10.0.0.1:1"}},
		RemoveMember{ID: "n1", Reason: "old"},
		PublishKey{identity.SigningKey{KID: "k1", Node: "n1", Alg: "EdDSA", Public: secret(5)}},
		RetireKey{KID: "k1"},
		BarMember{ID: "n1", Reason: "old"},
		DrainMember{ID: "n1", Draining: true},
		RotateKey{ID: "n1"},
		RotateGossip{Keys: [][]byte{secret(6)}},
		Recover{Node: "n1"},
		BeginRestore{Backup: BackupHeader{Index: 7, Time: epoch, Generation: 9, Settings: identity.Settings{Issuer: "https://id.example"}}},
		Import{Section: uint8(sectionAgents), Records: []byte{1}},
		EndRestore{},
		OpenMinting{},
		TrustIssuer{identity.TrustedIssuer{ID: "iss_1", Issuer: "https://login.company.com", Clients: []string{"web"}, Domains: []string{"company.com"}, Keys: "{}"}},
		DistrustIssuer{ID: "iss_1"},
		PutPolicy{Policy: testPolicy("hops"), IfRevision: 2, IfAbsent: true},
		SetPolicyMode{ID: "hops", Mode: identity.PolicyMonitor, IfRevision: 2},
		DeletePolicy{ID: "hops", IfRevision: 2},
		RequestApproval{testApproval(1, "triage", "b1")},
		DecideApproval{ID: approvalID(1), Approve: true, Note: "agreed in INC-7"},
		ConsumeApproval{ID: approvalID(1), Agent: "triage", Binding: "b1", For: testID(identity.PrefixSession, 1)},
	}
	bodies = append(bodies, Batch{Bodies: bodies[3:8]})
	commands := make([]Command, len(bodies))
	for i, b := range bodies {
		commands[i] = Command{Time: epoch, By: "tok_1", Body: b}
		if i%2 == 0 {
			commands[i].ID = CommandID{byte(i + 1)}
			commands[i].ClientKey = i%4 == 0
			commands[i].Fingerprint[15] = byte(i)
		}
	}
	return commands
}

func TestEveryCommandSurvivesTheLog(t *testing.T) {
	seen := map[Type]bool{}
	for _, c := range samples() {
		entry, err := Encode(c)
		require.NoError(t, err)
		back, err := Decode(entry)
		require.NoError(t, err, c.Body.Type())
		require.Equal(t, c, back)
		again, err := Encode(back)
		require.NoError(t, err)
		require.Equal(t, entry, again, "a command has one spelling")
		seen[c.Body.Type()] = true

		// A pointer to a body is the same command.
		p := reflect.New(reflect.TypeOf(c.Body))
		p.Elem().Set(reflect.ValueOf(c.Body))
		c.Body = p.Interface().(Body)
		again, err = Encode(c)
		require.NoError(t, err)
		require.Equal(t, entry, again)
	}
	for typ, name := range names {
		require.True(t, seen[typ], "%s has no sample", name)
		require.Equal(t, name, typ.String())
	}
	for _, b := range everyBody() {
		b.sealed()
	}
	require.Len(t, everyBody(), len(names))
	require.Equal(t, "command-999", Type(999).String())
}

func TestReleasedNumbersKeepTheirMeaning(t *testing.T) {
	require.Equal(t, map[Type]string{
		1: "batch", 2: "tick", 3: "purge", 4: "put-settings", 10: "create-agent", 11: "update-agent", 12: "set-agent-status",
		13: "kill-agent", 14: "delete-agent", 20: "add-credential", 21: "remove-credential", 30: "create-principal",
		31: "update-principal", 32: "set-principal-status", 33: "kill-principal", 34: "delete-principal",
		40: "create-application", 41: "update-application", 42: "delete-application", 50: "create-delegation",
		51: "withdraw-delegation", 60: "revoke", 70: "create-api-token", 71: "delete-api-token", 80: "create-join-token",
		81: "admit-member", 82: "update-member", 83: "remove-member", 90: "publish-key", 91: "retire-key",
		84: "bar-member", 85: "drain-member", 86: "rotate-key", 87: "rotate-gossip",
		110: "put-policy", 111: "set-policy-mode", 112: "delete-policy",
		100: "recover", 101: "begin-restore", 102: "import", 103: "end-restore", 104: "open-minting",
		130: "request-approval", 131: "decide-approval", 132: "consume-approval",
		120: "trust-issuer", 121: "distrust-issuer",
	}, names)
}

func TestEncodeRefusesWhatTheLogMayNotHold(t *testing.T) {
	_, err := Encode(Command{})
	require.Error(t, err)

	huge := testAgent("huge")
	huge.Description = strings.Repeat("x", MaxCommandBytes)
	_, err = Encode(Command{Body: CreateAgent{huge}})
	require.Equal(t, identity.CodeTooLarge, identity.CodeOf(err))

	_, err = Encode(Command{Body: Batch{Bodies: make([]Body, MaxBatch+1)}})
	require.Equal(t, identity.CodeTooLarge, identity.CodeOf(err))
	for _, item := range []Body{nil, Batch{}, &Batch{}} {
		_, err = Encode(Command{Body: Batch{Bodies: []Body{Tick{}, item}}})
		require.Equal(t, identity.CodeInvalid, identity.CodeOf(err))
	}
}

// envelope makes an entry by hand.
func envelope(version, flags byte, t Type, parts ...any) []byte {
	entry := binary.BigEndian.AppendUint16([]byte{version, flags}, uint16(t))
	for _, part := range parts {
		data, err := marshal(part)
		if err != nil {
			panic(err)
		}
		entry = append(entry, data...)
	}
	return entry
}

func TestDecodeIsStrict(t *testing.T) {
	good := envelope(1, 0, TypeKillAgent, &header{Time: epoch}, KillAgent{Name: "a"})
	_, err := Decode(good)
	require.NoError(t, err)

	for name, entry := range map[string][]byte{
		"empty":              {},
		"no envelope":        {1, 0, 0},
		"no header":          good[:4],
		"no body":            envelope(1, 0, TypeKillAgent, &header{}),
		"cut":                good[:len(good)-1],
		"trailing":           append(append([]byte{}, good...), 0),
		"unknown field":      envelope(1, 0, TypeKillAgent, &header{}, map[string]any{"n": "a", "new": true}),
		"unknown in header":  envelope(1, 0, TypeKillAgent, map[string]any{"t": 1, "new": true}, KillAgent{}),
		"another shape":      envelope(1, 0, TypeKillAgent, &header{}, "a"),
		"short id":           envelope(1, 0, TypeKillAgent, &header{ID: []byte{1}}, KillAgent{}),
		"long fingerprint":   envelope(1, 0, TypeKillAgent, &header{Fingerprint: make([]byte, 17)}, KillAgent{}),
		"batch in batch":     envelope(1, 0, TypeBatch, &header{}, []item{{Type: TypeBatch}}),
		"bad item":           envelope(1, 0, TypeBatch, &header{}, []item{{Type: TypeTick, Body: []byte{0xc1}}}),
		"bad batch":          envelope(1, 0, TypeBatch, &header{}, "x"),
		"too many in batch":  envelope(1, 0, TypeBatch, &header{}, make([]item, MaxBatch+1)),
		"over the bound":     make([]byte, MaxCommandBytes+1),
		"promises too much":  append(envelope(1, 0, TypeRevoke, &header{}), 0x81, 0xa1, 'h', 0xdd, 0xff, 0xff, 0xff, 0xff),
		"secret in an error": envelope(1, 0, TypeKillAgent, &header{}, map[string]any{"hunter2": true}),
	} {
		_, err := Decode(entry)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "hunter2")
		var unknown *UnknownError
		require.NotErrorAs(t, err, &unknown, name)
	}
}

func TestDecodeTellsWhatANewerBuildMade(t *testing.T) {
	for _, test := range []struct {
		name      string
		entry     []byte
		ignorable bool
	}{
		{"type", envelope(1, 0, 999, &header{}), false},
		{"ignorable type", envelope(1, flagIgnorable, 999, &header{}), true},
		{"envelope", envelope(2, 0, TypeTick), false},
		{"envelope with the flag", envelope(2, flagIgnorable, TypeTick), false},
		{"unknown flags", envelope(1, 0xff, 999, &header{}), false},
		{"flag", envelope(1, 2, TypeTick), false},
		{"item of a batch", envelope(1, flagIgnorable, TypeBatch, &header{}, []item{{Type: 999}}), false},
	} {
		_, err := Decode(test.entry)
		var unknown *UnknownError
		require.ErrorAs(t, err, &unknown, test.name)
		require.Equal(t, test.ignorable, unknown.Ignorable, test.name)
	}
}

// FuzzDecode holds the codec to three promises: it never panics, what it accepts it writes again in one
// spelling, and Apply takes whatever it accepts.
func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		entry, err := Encode(c)
		require.NoError(f, err)
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		c, err := Decode(entry)
		if err != nil {
			return
		}
		once, err := Encode(c)
		if err != nil {
			// Only the bound may be in the way: a value may have a longer spelling than the one that came.
			require.Equal(t, identity.CodeTooLarge, identity.CodeOf(err))
			return
		}
		back, err := Decode(once)
		require.NoError(t, err)
		twice, err := Encode(back)
		require.NoError(t, err)
		require.Equal(t, once, twice)

		m := newMachine(t)
		for _, setup := range samples() {
			require.NotPanics(t, func() { m.fsm.state.apply(setup) })
		}
		m.fsm.state.apply(c)
		m.fsm.state.apply(c)
		m.fsm.publish(m.fsm.state)
		require.Equal(t, m.snapshot(), m.restored().snapshot())
	})
}
