package fsm

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// randomBody draws a command over few names, so that commands meet.
func randomBody(t *rapid.T) Body {
	agent := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "agent")
	principal := rapid.SampledFrom([]string{"p@x", "q@x"}).Draw(t, "principal")
	credential := testID("crd_", rapid.Uint64Range(0, 5).Draw(t, "credential"))
	delegation := rapid.Uint64Range(0, 40).Draw(t, "delegation")
	status := rapid.SampledFrom([]identity.Status{identity.StatusActive, identity.StatusSuspended, identity.StatusDeactivated, "odd"}).Draw(t, "status")
	node := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node")
	yes := rapid.Bool().Draw(t, "yes")
	number := rapid.IntRange(0, 4).Draw(t, "number")
	owner := Owner{rapid.SampledFrom([]OwnerKind{OwnerAgent, OwnerApplication, "odd"}).Draw(t, "kind"), agent}
	scopes := rapid.SampledFrom([]identity.Scopes{"", "x", "x y", "z"}).Draw(t, "scopes")
	d := testDelegation(delegation, principal, agent)
	d.Scopes = scopes
	d.Expires = epoch.Add(time.Duration(rapid.IntRange(1, 48).Draw(t, "hours")) * time.Hour)
	a := testAgent(agent)
	a.DefaultScopes, a.Labels = scopes, map[string]string{"k": node, "l": agent, "m": principal}
	a.MaxSessionSeconds = rapid.Int64Range(-1, 1<<40).Draw(t, "max")
	app := identity.Application{Name: agent, Audience: "https://" + node, Scopes: scopes}
	if yes {
		a.Credentials = []identity.Credential{{ID: credential}}
		app.Credentials = a.Credentials
	}
	return rapid.SampledFrom([]Body{
		Tick{},
		Purge{},
		PutSettings{identity.Settings{ClusterID: node, LeaseMillis: int64(number) * 10_000}},
		CreateAgent{a},
		CreateAgent{a},
		UpdateAgent{Agent: a, IfRevision: uint64(number)},
		SetAgentStatus{Name: agent, Status: status},
		KillAgent{Name: agent, KeepActive: yes},
		DeleteAgent{Name: agent},
		AddCredential{owner, identity.Credential{ID: credential}},
		RemoveCredential{Owner: owner, ID: credential},
		CreatePrincipal{identity.Principal{ID: principal}},
		UpdatePrincipal{Principal: identity.Principal{ID: principal}},
		SetPrincipalStatus{ID: principal, Status: status},
		KillPrincipal{ID: principal, KeepActive: yes},
		KillPrincipal{ID: principal, KeepActive: true, KeepConsent: yes},
		DeletePrincipal{ID: principal},
		CreateApplication{app},
		UpdateApplication{Application: app},
		DeleteApplication{Name: agent},
		CreateDelegation{d, yes, number > 2},
		CreateDelegation{d, true, true},
		WithdrawDelegation{ID: delegationID(delegation)},
		Revoke{Handles: []identity.Handle{
			identity.Handle(delegationID(delegation)), identity.Handle(credential),
			identity.AgentHandle(agent, uint64(number)), identity.PrincipalHandle(principal, uint64(number*3)), identity.KeyHandle(node),
			identity.Handle(fmt.Sprintf("tok_%d", number)), "odd",
		}[rapid.IntRange(0, 6).Draw(t, "first"):]},
		apiToken(number, identity.RoleAdmin),
		DeleteAPIToken{ID: fmt.Sprintf("tok_%d", number)},
		CreateJoinToken{identity.JoinToken{ID: node, Hash: secret(number), Expires: epoch.Add(time.Hour)}},
		AdmitMember{Member: identity.Member{ID: node, Key: []byte(node)}, JoinTokenHash: secret(number)},
		AdmitMember{Member: identity.Member{ID: node, Key: []byte(agent)}},
		UpdateMember{identity.Member{ID: node}},
		RemoveMember{ID: node},
		PublishKey{identity.SigningKey{KID: node, Node: node, Public: []byte(node)}},
		RetireKey{KID: node},
		BarMember{ID: node},
		DrainMember{ID: node, Draining: yes},
		RotateKey{ID: node},
		RotateGossip{Keys: [][]byte{secret(number), secret(number + 1)}},
		Recover{Node: node},
		OpenMinting{},
		BeginRestore{Backup: BackupHeader{Time: epoch, Generation: uint64(number * 20), Settings: identity.Settings{LeaseMillis: int64(number) * 1000}}},
		randomImport(t, wireAgent{Agent: &a, Born: 1}, wirePrincipal{Principal: &identity.Principal{ID: principal}, Born: 1}, d),
		randomImport(t, wireAgent{Agent: &a, Born: 1}, wirePrincipal{Principal: &identity.Principal{ID: principal}, Born: 1}, d),
		EndRestore{Records: number},
		TrustIssuer{identity.TrustedIssuer{ID: fmt.Sprintf("iss_%d", number), Issuer: "https://" + agent}},
		DistrustIssuer{ID: fmt.Sprintf("iss_%d", number)},
	}).Draw(t, "body")
}

func randomCommand(t *rapid.T, now identity.Instant) Command {
	body := randomBody(t)
	if rapid.IntRange(0, 9).Draw(t, "batch") == 0 {
		var batch Batch
		for range rapid.IntRange(0, 5).Draw(t, "items") {
			batch.Bodies = append(batch.Bodies, randomBody(t))
		}
		body = batch
	}
	return Command{
		ID: CommandID{rapid.Byte().Draw(t, "id") % 16}, Fingerprint: [16]byte{rapid.Byte().Draw(t, "print") % 2},
		ClientKey: rapid.Bool().Draw(t, "client"), Time: now, By: "tok_1", Body: body,
	}
}

func randomLog(t *rapid.T) []*raft.Log {
	now := epoch
	entries := make([]*raft.Log, rapid.IntRange(1, 60).Draw(t, "commands"))
	for i := range entries {
		now = now.Add(time.Duration(rapid.IntRange(-1, 10).Draw(t, "hours")) * time.Hour)
		data, err := Encode(randomCommand(t, now))
		require.NoError(t, err)
		entries[i] = &raft.Log{Index: uint64(i + 1), Type: raft.LogCommand, Data: data}
	}
	return entries
}

// TestApplyIsAFunctionOfTheLog: however the log is cut into batches, and wherever a replica went on from a
// snapshot, the answers and the state are the same, byte for byte.
func TestApplyIsAFunctionOfTheLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		entries := randomLog(rt)
		one, two, three := newMachine(t), newMachine(t), newMachine(t)
		var answers []any
		for _, entry := range entries {
			answers = append(answers, one.fsm.Apply(entry))
		}
		var batched []any
		for rest := entries; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "cut")
			batched = append(batched, two.fsm.ApplyBatch(rest[:n])...)
			rest = rest[n:]
		}
		require.Equal(rt, answers, batched)
		want := one.snapshot()
		require.Equal(rt, want, two.snapshot())

		cut := rapid.IntRange(0, len(entries)).Draw(rt, "restored at")
		three.fsm.ApplyBatch(entries[:cut])
		three = three.restored()
		three.fsm.ApplyBatch(entries[cut:])
		require.Equal(rt, want, three.snapshot())

		// Whatever is filed as revoked is in the set.
		for _, r := range one.fsm.View().Revocations("", 1000) {
			require.True(rt, one.set.Revoked(r.Handle))
		}
	})
}

// lent is a delegation as a person would keep book of it.
type lent struct {
	identity.Delegation
	dead bool // its agent or principal was deleted
}

// book is the plain model: lists, no indexes, no generations.
type book struct {
	agents, principals map[string]bool // name → exists
	barred             map[[2]string]bool
	wholly             map[string]bool // a principal killed: barred but for those granted again since
	lent               []*lent
}

func (b *book) isBarred(agent, principal string) bool {
	if mark, ok := b.barred[[2]string{agent, principal}]; ok {
		return mark
	}
	return b.wholly[principal]
}

func (b *book) of(agent, principal string) []*lent {
	var out []*lent
	for _, d := range b.lent {
		if !d.dead && (agent == "" || d.Agent == agent) && (principal == "" || d.Principal == principal) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *lent) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (b *book) clear(principal string) {
	for pair := range b.barred {
		if pair[1] == principal {
			delete(b.barred, pair)
		}
	}
}

// TestDelegationsAgreeWithAPlainBook drives the compact table and a plain list with the same commands.
func TestDelegationsAgreeWithAPlainBook(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		b := &book{agents: map[string]bool{}, principals: map[string]bool{}, barred: map[[2]string]bool{}, wholly: map[string]bool{}}
		next := uint64(0)
		names := rapid.SampledFrom([]string{"a", "b"})
		people := rapid.SampledFrom([]string{"p@x", "q@x"})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			agent, principal := names.Draw(rt, "agent"), people.Draw(rt, "principal")
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			case 0:
				r := m.do(CreateAgent{testAgent(agent)})
				require.Equal(rt, b.agents[agent], r.Err != nil)
				b.agents[agent] = true
			case 1:
				require.Equal(rt, b.agents[agent], m.do(DeleteAgent{Name: agent}).Err == nil)
				b.agents[agent] = false
				for _, d := range b.of(agent, "") {
					d.dead = true
				}
			case 2:
				require.Equal(rt, b.principals[principal], m.do(DeletePrincipal{ID: principal}).Err == nil)
				b.principals[principal] = false
				for _, d := range b.of("", principal) {
					d.dead = true
				}
				b.clear(principal)
				delete(b.wholly, principal)
			case 3:
				if m.do(KillPrincipal{ID: principal, KeepActive: true}).Err == nil {
					for _, d := range b.of("", principal) {
						d.Status = identity.DelegationWithdrawn
					}
					b.clear(principal)
					b.wholly[principal] = true
				}
			case 4:
				if all := b.of("", ""); len(all) > 0 {
					d := rapid.SampledFrom(all).Draw(rt, "withdrawn")
					require.Nil(rt, m.do(WithdrawDelegation{ID: d.ID}).Err)
					if d.Status == identity.DelegationActive {
						d.Status = identity.DelegationWithdrawn
						b.barred[[2]string{d.Agent, d.Principal}] = true
					}
				}
			case 5:
				m = m.restored()
			default:
				next++
				d := testDelegation(next*7919%1009, principal, agent)
				d.Scopes = rapid.SampledFrom([]identity.Scopes{"x", "x y", "y"}).Draw(rt, "scopes")
				d.Expires = epoch.Add(time.Duration(rapid.IntRange(1, 20).Draw(rt, "hours")) * time.Hour)
				regrant := rapid.Bool().Draw(rt, "regrant")
				r := m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true, Regrant: regrant})
				require.Equal(rt, b.agents[agent] && (regrant || !b.isBarred(agent, principal)), r.Err == nil)
				if r.Err == nil {
					b.principals[principal] = true
					d.Status = identity.DelegationActive
					b.lent = append(b.lent, &lent{Delegation: d})
					if b.isBarred(agent, principal) {
						b.barred[[2]string{agent, principal}] = false
					}
				}
			}
			b.agrees(rt, m, epoch.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "now"))*time.Hour))
		}
	})
}

// requirePairs holds the index of the mint path to the table: it has each record once, in its pair, those that were withdrawn
// one by one left out, and each pair in order.
func requirePairs(t require.TestingT, v *View) {
	want := map[[2]string][]*record{}
	v.delegations.Scan(func(r *record) bool {
		if !r.inactive {
			key := [2]string{r.principal, r.agent.Value()}
			want[key] = append(want[key], r)
		}
		return true
	})
	for _, records := range want {
		slices.SortFunc(records, byExpiryOrder)
	}
	have := allPairs(v.pairs)
	require.Equal(t, len(want), len(have))
	for key, records := range want {
		require.Len(t, have[key], len(records))
		for i, r := range records {
			require.Same(t, r, have[key][i])
		}
	}
}

// allPairs are the records of each pair, the one that lasts longest last.
func allPairs(n *indexNode[pair]) map[[2]string][]*record {
	all := map[[2]string][]*record{}
	var collect func(n *indexNode[pair])
	collect = func(n *indexNode[pair]) {
		for i := range n.kids {
			for _, item := range n.kids[i].list {
				key := [2]string{item.row.lead.principal, item.row.lead.agent.Value()}
				item.row.descend(func(r *record) bool {
					all[key] = append(all[key], r)
					return true
				})
				slices.Reverse(all[key])
			}
			if n.kids[i].below != nil {
				collect(n.kids[i].below)
			}
		}
	}
	collect(n)
	return all
}

func (b *book) agrees(t *rapid.T, m *machine, now identity.Instant) {
	v := m.fsm.View()
	requirePairs(t, v)
	for _, agent := range []string{"", "a", "b"} {
		for _, principal := range []string{"", "p@x", "q@x"} {
			want := b.of(agent, principal)
			have := v.Delegations(DelegationFilter{Agent: agent, Principal: principal}, "", 1000)
			require.Len(t, have, len(want))
			active := 0
			var best *lent
			for i, d := range want {
				require.Equal(t, d.ID, have[i].ID)
				require.Equal(t, d.Status, have[i].Status)
				if d.ActiveAt(now) {
					active++
					if d.Scopes.Contains("x") && (best == nil || d.Expires > best.Expires || d.Expires == best.Expires && d.ID > best.ID) {
						best = d
					}
				}
			}
			require.Equal(t, active, v.CountDelegations(agent, principal, now))
			require.Equal(t, len(want), v.CountDelegations(agent, principal, 0))
			if agent == "" || principal == "" {
				continue
			}
			require.Equal(t, b.principals[principal] && b.isBarred(agent, principal), v.ConsentBarred(agent, principal))
			d, err := v.ActiveDelegation(agent, principal, "x", now)
			if best == nil {
				require.NotNil(t, err)
				require.Zero(t, d.Delegation)
				continue
			}
			require.Nil(t, err)
			require.Equal(t, best.ID, d.Delegation.ID)
			require.Equal(t, agent, d.Agent.Name)
			require.Equal(t, principal, d.Principal.ID)
		}
	}
}

// TestPagesCoverAListOnce walks every list page by page.
func TestPagesCoverAListOnce(t *testing.T) {
	m := lived(t)
	v := m.fsm.View()
	walk := func(total int, page func(after string) (ids []string)) {
		t.Helper()
		var all []string
		for after := ""; ; {
			ids := page(after)
			if len(ids) == 0 {
				break
			}
			all = append(all, ids...)
			after = ids[len(ids)-1]
		}
		require.Len(t, all, total)
		require.True(t, slices.IsSorted(all))
		require.Len(t, slices.Compact(all), total)
	}
	for _, limit := range []int{1, 3, 7} {
		walk(v.Counts().Agents, func(after string) []string {
			return ids(v.Agents(after, limit), func(a *identity.Agent) string { return a.Name })
		})
		walk(v.Counts().Principals, func(after string) []string {
			return ids(v.Principals(after, limit), func(p *identity.Principal) string { return p.ID })
		})
		walk(v.Counts().Applications, func(after string) []string {
			return ids(v.Applications(after, limit), func(a *identity.Application) string { return a.Name })
		})
		walk(v.Counts().APITokens, func(after string) []string {
			return ids(v.APITokens(after, limit), func(x *identity.APIToken) string { return x.ID })
		})
		walk(len(v.JoinTokens("", 100)), func(after string) []string {
			return ids(v.JoinTokens(after, limit), func(x *identity.JoinToken) string { return x.ID })
		})
		walk(v.Counts().Revocations, func(after string) []string {
			return ids(v.Revocations(identity.Handle(after), limit), func(r *identity.Revocation) string { return string(r.Handle) })
		})
		for _, f := range []DelegationFilter{{}, {Agent: "agent-0000003"}, {Principal: "user-0000003@company.example"}} {
			walk(v.CountDelegations(f.Agent, f.Principal, 0), func(after string) []string {
				return ids(v.Delegations(f, after, limit), func(d *identity.Delegation) string { return d.ID })
			})
		}
	}
	require.Empty(t, v.Delegations(DelegationFilter{}, "no id", 10))
	require.Empty(t, v.Delegations(DelegationFilter{Agent: "no agent"}, "", 10))
	_, ok := v.Delegation("no id")
	require.False(t, ok)
}

func ids[T any](items []*T, id func(*T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = id(item)
	}
	return out
}

func TestSmallTablesAreFoundByEachOfTheirKeys(t *testing.T) {
	m := lived(t)
	v := m.fsm.View()
	token, ok := v.APITokenByHash([32]byte(secret(7)))
	require.True(t, ok)
	require.Equal(t, "tok_7", token.ID)
	same, _ := v.APIToken("tok_7")
	require.Same(t, token, same)
	join, ok := v.JoinTokenByHash(secret(7))
	require.True(t, ok)
	sameJoin, _ := v.JoinToken("jtk_7")
	require.Same(t, join, sameJoin)
	key, ok := v.SigningKey("k7")
	require.True(t, ok)
	require.Contains(t, v.SigningKeys(), *key)
	require.Len(t, v.AllMembers(), 1)
	member, ok := v.Member(v.AllMembers()[0].ID)
	require.True(t, ok)
	sameMember, _ := v.MemberByKey(member.Key)
	require.Same(t, member, sameMember)
	_, ok = v.MemberByKey([]byte("nobody"))
	require.False(t, ok)
	require.NoError(t, m.fsm.Restore(io.NopCloser(bytes.NewReader(m.snapshot()))))
}

// TestAPairIsFullAtItsBound: by how many it has where they are few, and by what is active where they are many.
func TestAPairIsFullAtItsBound(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"a", "b"} {
		must1[*identity.Agent](m, CreateAgent{testAgent(name)})
	}
	lend := func(n uint64, agent string, hours int) Result {
		d := testDelegation(n, "ann@x", agent)
		d.Expires = m.now.Add(time.Duration(hours) * time.Hour)
		return m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true})
	}
	full := func(r Result) { require.Equal(t, identity.CodeLimitReached, r.Err.Code) }
	for n := range uint64(MaxPairDelegations) {
		require.Nil(t, lend(n, "a", 1+int(n%2)).Err)
	}
	full(lend(1000, "a", 1))
	require.Nil(t, lend(1001, "b", 1).Err, "another pair has its own")
	m.pass(time.Hour) // half of them have ended
	for n := range uint64(MaxPairDelegations / 2) {
		require.Nil(t, lend(2000+n, "a", 3).Err)
	}
	full(lend(3000, "a", 1))
	must1[*DelegationChange](m, WithdrawDelegation{ID: delegationID(2001)})
	require.Nil(t, m.do(CreateDelegation{Delegation: func() identity.Delegation {
		d := testDelegation(3001, "ann@x", "a")
		d.Expires = m.now.Add(time.Hour)
		return d
	}(), Regrant: true}).Err)
	full(m.do(CreateDelegation{Delegation: testDelegation(3002, "ann@x", "a"), Regrant: true}))
	must1[*AgentChange](m, KillAgent{Name: "a", KeepActive: true})
	full(m.do(CreateDelegation{Delegation: testDelegation(3003, "ann@x", "a"), Regrant: true}))
	must1[*PrincipalChange](m, KillPrincipal{ID: "ann@x", KeepActive: true})
	require.Nil(t, m.do(CreateDelegation{Delegation: testDelegation(3004, "ann@x", "a"), Regrant: true}).Err, "the kill has withdrawn them all")
}
