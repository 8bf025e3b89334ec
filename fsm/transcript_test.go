package fsm

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

var update = flag.Bool("update", false, "write what came out into testdata/*.txt")

// TestTranscripts replays testdata/*.txt. A line is one of
//
//	# a comment
//	command {json of its body}        proposes it; the answer follows
//	by=WHO command {json}             by somebody else than tok_admin
//	key=K print=P command {json}      with a client's idempotency key K and fingerprint P
//	pass 4h                           moves the clock
//	restore                           goes on in a new FSM, restored from a snapshot
//	? what …                          asks the View
//
// and each answer line begins with "= ". Ids are written dlg_1, crd_1, ses_1 and so on.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			p := &player{machine: newMachine(t)}
			var out strings.Builder
			for _, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
				if strings.HasPrefix(line, "= ") {
					continue
				}
				out.WriteString(line + "\n")
				for _, answer := range p.play(line) {
					out.WriteString("= " + shortIDs(answer) + "\n")
				}
			}
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(out.String()), 0o600))
			}
			require.Equal(t, string(text), out.String())
		})
	}
}

type player struct{ *machine }

func (p *player) play(line string) []string {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasPrefix(line, "#") {
		return nil
	}
	switch words[0] {
	case "pass":
		d, err := time.ParseDuration(words[1])
		require.NoError(p.t, err)
		p.pass(d)
		return nil
	case "restore":
		p.machine = p.restored()
		return nil
	case "?":
		return p.ask(words[1:])
	}
	c := Command{By: "tok_admin"}
	for ; strings.Contains(words[0], "="); words = words[1:] {
		name, text, _ := strings.Cut(words[0], "=")
		switch name {
		case "key":
			copy(c.ID[:], text)
			c.ClientKey = true
		case "id":
			copy(c.ID[:], text)
		case "by":
			c.By = text
		case "print":
			copy(c.Fingerprint[:], text)
		}
	}
	c.Body = p.body(words[0], longIDs(strings.Join(words[1:], " ")))
	return answer(p.propose(c))
}

// body makes a Body by the name of its type.
func (p *player) body(name, text string) Body {
	if name == "batch" {
		var items []map[string]json.RawMessage
		require.NoError(p.t, json.Unmarshal([]byte(text), &items), text)
		var batch Batch
		for _, it := range items {
			for name, body := range it {
				batch.Bodies = append(batch.Bodies, p.body(name, string(body)))
			}
		}
		return batch
	}
	for _, zero := range everyBody() {
		if zero.Type().String() != name {
			continue
		}
		v := reflect.New(reflect.TypeOf(zero))
		if text != "" {
			d := json.NewDecoder(strings.NewReader(text))
			d.DisallowUnknownFields()
			require.NoError(p.t, d.Decode(v.Interface()), "%s %s", name, text)
		}
		return v.Elem().Interface().(Body)
	}
	p.t.Fatalf("no command is called %q", name)
	return nil
}

func answer(r Result) []string {
	replayed := ""
	if r.Replayed {
		replayed = fmt.Sprintf(" (replayed from %d)", r.Index)
	}
	if r.Err != nil {
		return []string{fmt.Sprintf("%s: %s%s", r.Err.Code, r.Err.Message, replayed)}
	}
	if results, ok := r.Value.([]Result); ok {
		lines := []string{fmt.Sprintf("batch of %d%s", len(results), replayed)}
		for _, item := range results {
			lines = append(lines, "  "+answer(item)[0])
		}
		return lines
	}
	return []string{describe(r.Value) + replayed}
}

// describe says in one line what matters of a value.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "ok"
	case *identity.Agent:
		s := fmt.Sprintf("%s %s max=%ds scopes=[%s] r%d", v.Handle(), v.Status, v.MaxSessionSeconds, v.DefaultScopes, v.Revision)
		for _, c := range v.Credentials {
			s += " " + c.ID
		}
		return s
	case *identity.Principal:
		return fmt.Sprintf("%s %s r%d", v.Handle(), v.Status, v.Revision)
	case *identity.Application:
		return fmt.Sprintf("%s %s scopes=[%s] credentials=%d r%d", v.Name, v.Audience, v.Scopes, len(v.Credentials), v.Revision)
	case *identity.Delegation:
		return fmt.Sprintf("%s %s→%s [%s] %s until +%s r%d", v.ID, v.Principal, v.Agent, v.Scopes, v.Status, v.Expires.Sub(epoch), v.Revision)
	case *AgentChange:
		return fmt.Sprintf("%s denied=%v", describe(v.Agent), v.Handles)
	case *PrincipalChange:
		return fmt.Sprintf("%s denied=%v", describe(v.Principal), v.Handles)
	case *DelegationChange:
		return fmt.Sprintf("%s denied=%v", describe(v.Delegation), v.Handles)
	case *identity.Revocation:
		return fmt.Sprintf("%s by %s because %q until +%s", v.Handle, v.By, v.Reason, v.Expires.Sub(epoch))
	case *identity.Member:
		return fmt.Sprintf("member %s at %s token=%q removed=%t", v.ID, v.ClusterAddr, v.JoinToken, !v.Removed.IsZero())
	case *identity.SigningKey:
		return fmt.Sprintf("key %s of %s retired=%t", v.KID, v.Node, !v.Retired.IsZero())
	case *identity.Policy:
		return fmt.Sprintf("policy %s %s v%d %q by %s r%d", v.ID, v.Mode, v.Version, v.Text, v.By, v.Revision)
	case *identity.Approval:
		return fmt.Sprintf("%s of %s for %s %s asked=%v decided=%q %q used=%q for %q until +%s r%d",
			v.ID, v.Agent, v.Binding, v.Status, v.AskedBy, v.DecidedBy, v.Note, v.UsedBy, v.UsedFor, v.Expires.Sub(epoch), v.Revision)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
}

func (p *player) ask(words []string) []string {
	v := p.fsm.View()
	arg := func(i int) string {
		if i < len(words) {
			return longIDs(words[i])
		}
		return ""
	}
	found := func(value any, ok bool) []string {
		if !ok {
			return []string{"none"}
		}
		return []string{describe(value)}
	}
	switch words[0] {
	case "agent":
		a, ok := v.Agent(arg(1))
		return found(a, ok)
	case "principal":
		x, ok := v.Principal(arg(1))
		return found(x, ok)
	case "delegation":
		d, ok := v.Delegation(arg(1))
		return found(d, ok)
	case "active":
		d, err := v.ActiveDelegation(arg(1), arg(2), identity.Scopes(strings.Join(words[3:], " ")), p.now)
		if err != nil {
			return []string{fmt.Sprintf("%s: %s", err.Code, err.Message)}
		}
		return []string{describe(&d.Delegation)}
	case "barred":
		return []string{strconv.FormatBool(v.ConsentBarred(arg(1), arg(2)))}
	case "delegations":
		lines := []string{}
		for _, d := range v.Delegations(DelegationFilter{Agent: strings.Trim(arg(1), "*"), Principal: strings.Trim(arg(2), "*")}, "", 100) {
			lines = append(lines, describe(d))
		}
		return lines
	case "revoked":
		return []string{strconv.FormatBool(p.set.Revoked(identity.Handle(arg(1))))}
	case "revocations":
		lines := []string{}
		for _, r := range v.Revocations("", 100) {
			lines = append(lines, describe(r))
		}
		return lines
	case "owner":
		o, ok := v.CredentialOwner(arg(1))
		return found(o, ok)
	case "policy":
		x, ok := v.Policy(arg(1))
		return found(x, ok)
	case "policies":
		lines := []string{fmt.Sprintf("revision %d", v.PoliciesRevision())}
		for _, x := range v.AllPolicies() {
			lines = append(lines, describe(x))
		}
		return lines
	case "approval":
		x, ok := v.Approval(arg(1))
		return found(x, ok)
	case "approval-for":
		x, ok := v.ApprovalFor(arg(1), arg(2), p.now)
		return found(x, ok)
	case "approvals":
		lines := []string{fmt.Sprintf("revision %d", v.ApprovalsRevision())}
		for _, x := range v.Approvals("", 100, func(*identity.Approval) bool { return true }) {
			lines = append(lines, describe(x))
		}
		return lines
	case "keys":
		lines := []string{fmt.Sprintf("revision %d", v.KeysRevision())}
		for _, k := range v.SigningKeys() {
			lines = append(lines, describe(&k))
		}
		return lines
	case "members":
		lines := []string{}
		for _, m := range v.Members() {
			lines = append(lines, describe(m))
		}
		return lines
	case "standing":
		m, ok := v.Member(arg(1))
		require.True(p.t, ok)
		return []string{fmt.Sprintf("%s barred=%t draining=%t rotate=%d removed=%t", m.ID, !m.Barred.IsZero(), !m.Draining.IsZero(), m.RotateKey, !m.Removed.IsZero())}
	case "bounds":
		return []string{fmt.Sprintf("lease %s, offline tokens %s", v.LeaseBound(), v.OfflineBound())}
	case "closed":
		return []string{strconv.Quote(v.Closed())}
	case "counts":
		return []string{fmt.Sprintf("%+v", v.Counts())}
	}
	p.t.Fatalf("can't be asked about %q", words[0])
	return nil
}

var (
	shortID = regexp.MustCompile(`\b(dlg|crd|ses)_(\d{1,4})\b`)
	longID  = regexp.MustCompile(`\b(dlg|crd|ses)_[0-9a-z]{26}\b`)
)

func longIDs(text string) string {
	return shortID.ReplaceAllStringFunc(text, func(id string) string {
		n, err := strconv.ParseUint(id[4:], 10, 64)
		if err != nil {
			return id
		}
		return testID(id[:4], n)
	})
}

func shortIDs(text string) string {
	return longID.ReplaceAllStringFunc(text, func(id string) string {
		for n := range uint64(10_000) {
			if testID(id[:4], n) == id {
				return fmt.Sprintf("%s%d", id[:4], n)
			}
		}
		return id
	})
}

// everyBody is one zero body of each type.
func everyBody() []Body {
	return []Body{
		Batch{},
		Tick{},
		Purge{},
		PutSettings{},
		CreateAgent{},
		UpdateAgent{},
		SetAgentStatus{},
		KillAgent{},
		DeleteAgent{},
		AddCredential{},
		RemoveCredential{},
		CreatePrincipal{},
		UpdatePrincipal{},
		SetPrincipalStatus{},
		KillPrincipal{},
		DeletePrincipal{},
		CreateApplication{},
		UpdateApplication{},
		DeleteApplication{},
		CreateDelegation{},
		WithdrawDelegation{},
		Revoke{},
		CreateAPIToken{},
		DeleteAPIToken{},
		CreateJoinToken{},
		AdmitMember{},
		UpdateMember{},
		RemoveMember{},
		PublishKey{},
		RetireKey{},
		BarMember{},
		DrainMember{},
		RotateKey{},
		RotateGossip{},
		Recover{},
		BeginRestore{},
		Import{},
		EndRestore{},
		OpenMinting{},
		TrustIssuer{},
		DistrustIssuer{},
		PutPolicy{},
		SetPolicyMode{},
		DeletePolicy{},
		RequestApproval{},
		DecideApproval{},
		ConsumeApproval{},
	}
}
