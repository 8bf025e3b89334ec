package api

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/revocation"
)

func revokeBody(handles []identity.Handle) fsm.Revoke {
	return fsm.Revoke{Handles: handles, Reason: "test"}
}

// quick has streams look around often.
func quick(n *node) *node {
	n.api.streams.heartbeat = 20 * time.Millisecond
	return n
}

func TestStreamBeginsWithTheWholeSetAndGoesOn(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	at := g.revoke(t, "ses_a", "agt_mailer#7")
	n.deny("usr_a@x#3")
	f := n.follow("")
	synced := f.synced()
	require.Equal(t, at, synced.id)
	require.Equal(t, at, synced.data.Index)
	require.EqualValues(t, 3, synced.data.Count)
	open := f.named(wire.EventOpen)[0]
	require.Equal(t, wire.RevocationEvent{Node: "n1", Log: n.fsm.View().Log(), Heartbeat: 3000}, open.data)
	require.Zero(t, open.id)
	for _, e := range f.named(wire.EventSnapshot) {
		require.Zero(t, e.id, "who is cut off in a snapshot has to begin again")
	}
	require.True(t, f.has("ses_a", "agt_mailer#7", "usr_a@x#3")())
	require.True(t, f.have["usr_a@x#3"].Provisional)
	known, _ := n.fsm.View().Revocation("ses_a")
	require.Equal(t, wire.RevokedHandle{Handle: "ses_a", ExpiresAt: known.Expires}, f.have["ses_a"])

	n.deny("ses_b")
	f.await("a handle that is denied", f.has("ses_b"))
	require.Equal(t, at, f.index)
	at = g.revoke(t, "ses_b", "ses_c")
	f.await("handles that are committed", f.has("ses_c"))
	require.False(t, f.have["ses_b"].Provisional)
	require.Equal(t, at, f.index)

	g.advance(1000 * time.Hour)
	at = g.setUp(t, fsm.Purge{}).Index
	f.await("a purge", func() bool { return f.last().name == wire.EventPurge })
	require.Equal(t, sent{name: wire.EventPurge, id: at, data: wire.RevocationEvent{Index: at, Before: n.fsm.View().Time()}}, f.last())
	require.Equal(t, n.fsm.View().Time(), n.follow("").synced().data.Before, "a new follower need not keep them either")
}

func TestStreamGoesOnFromAnIndex(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	at := g.revoke(t, "ses_a")
	n.deny("ses_p") // ahead of the log, and of where the stream goes on: it must not be missed all the same
	g.revoke(t, "ses_b")
	g.revoke(t, "ses_c")
	for name, how := range map[string]func() *follower{
		"parameter":       func() *follower { return n.follow(fmt.Sprintf("?from=%d", at)) },
		"header":          func() *follower { return n.follow("", with(wire.HeaderLastEventID, fmt.Sprint(at))) },
		"the later wins":  func() *follower { return n.follow("?from=1", with(wire.HeaderLastEventID, fmt.Sprint(at))) },
		"and the other's": func() *follower { return n.follow(fmt.Sprintf("?from=%d", at), with(wire.HeaderLastEventID, "1")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := how()
			f.await("what came since", f.has("ses_b", "ses_c", "ses_p"))
			require.True(t, f.named(wire.EventOpen)[0].data.Resumed)
			require.False(t, f.has("ses_a")(), "it has that")
			require.Empty(t, f.named(wire.EventSnapshot))
		})
	}
	for _, path := range []string{"?from=x", "?from=-1", "?since=1"} {
		n.send("GET", streamPath+path, nil).refused(identity.CodeInvalid)
	}
	n.send("GET", streamPath, nil, with(wire.HeaderLastEventID, "x")).refused(identity.CodeInvalid)
}

// A follower that comes from a node that is further than this one loses nothing and is not thrown back.
func TestStreamGoesOnAtANodeThatIsBehind(t *testing.T) {
	g := newGroup(t, 2)
	g.holdBack(1)
	at := g.revoke(t, "ses_a")
	f := quick(g.nodes[1]).follow(fmt.Sprintf("?from=%d", at))
	f.await("a heartbeat", func() bool { return f.last().comment })
	require.Zero(t, f.last().id)
	g.revoke(t, "ses_b")
	g.release(1)
	f.await("what is new", f.has("ses_b"))
	for _, e := range f.events {
		require.True(t, e.id == 0 || e.id >= at, "%+v", e)
	}
}

func TestStreamFromTooLongAgoBeginsAgain(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	at := g.revoke(t, "ses_a")
	n.journal.Reset(at + 1) // a snapshot of the log was installed
	f := n.follow(fmt.Sprintf("?from=%d", at))
	f.synced()
	require.True(t, f.has("ses_a")())
	require.False(t, f.named(wire.EventOpen)[0].data.Resumed)
}

func TestHeartbeatsTellHowFarTheLogHasCome(t *testing.T) {
	// Shorter than the stream lasts: a healthy stream is not cut.
	g := newGroup(t, 1, func(o *Options) { o.Limits.WriteTimeout = 50 * time.Millisecond })
	n := quick(g.nodes[0])
	f := n.follow("")
	f.synced()
	at := g.setUp(t, fsm.Tick{}).Index
	f.await("heartbeats", func() bool { return f.last().comment && f.index == at })
	beats := 0
	f.await("a stream that goes on", func() bool {
		beats = 0
		for _, e := range f.events {
			if e.comment {
				beats++
			}
		}
		return beats > 20
	})
	g.revoke(t, "ses_a")
	f.await("a handle", f.has("ses_a"))
}

func TestNodeThatIsNotFreshHasNobodyFollowIt(t *testing.T) {
	g := newGroup(t, 1)
	n := quick(g.nodes[0])
	f := n.follow("")
	f.synced()
	n.lapsed.Store(true)
	require.Equal(t, string(identity.CodeNotFresh), f.ends())
	n.send("GET", streamPath, nil).refused(identity.CodeNotFresh)
	n.send("GET", leasePath, nil).refused(identity.CodeNotFresh)
}

func TestStreamEndsWithTheRightToIt(t *testing.T) {
	g := newGroup(t, 1)
	n := quick(g.nodes[0])
	secret := n.applicationWithSecret(gmail)
	auditor := g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	g.addToken(t, "dpt_brief", identity.APIToken{Name: "b", Roles: []identity.Role{identity.RoleRuntime}, Expires: identity.InstantOf(g.time().Add(time.Minute))})
	byToken, byApplication, brief := n.follow("", token("dpt_auditor")), n.follow("", basic("gmail", secret)), n.follow("", token("dpt_brief"))
	for _, f := range []*follower{byToken, byApplication, brief} {
		f.synced()
	}
	g.setUp(t, fsm.DeleteAPIToken{ID: auditor.ID})
	require.Equal(t, string(identity.CodeUnauthenticated), byToken.ends())
	g.advance(time.Minute)
	require.Equal(t, string(identity.CodeUnauthenticated), brief.ends())
	ok[wire.Deleted](n.send("DELETE", "/api/v1/applications/gmail", nil), 200)
	require.Equal(t, string(identity.CodeUnauthenticated), byApplication.ends())
}

func TestWhoMayFollow(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	secret := n.applicationWithSecret(gmail)
	agent := n.agentWithSecret(articleAgent)
	for _, path := range []string{streamPath, leasePath} {
		for _, role := range []identity.Role{identity.RoleProvisioner, identity.RoleApprover} {
			g.addToken(t, "dpt_"+string(role)+path, identity.APIToken{Name: "x", Roles: []identity.Role{role}})
			n.send("GET", path, nil, token("dpt_"+string(role)+path)).refused(identity.CodeForbidden)
		}
		for name, o := range map[string]option{
			"wrong secret": basic("gmail", "dps_wrong"), "unknown": basic("nobody", secret), "an agent": basic("support-triage-agent", agent),
			"not base64": with("Authorization", "Basic %"),
		} {
			a := n.send("GET", path, nil, o)
			a.refused(identity.CodeUnauthenticated)
			require.Equal(t, `Basic realm="deputy"`, a.Header.Get("Www-Authenticate"), name)
		}
	}
	// Elsewhere such credentials are worth nothing.
	n.send("GET", "/api/v1/revocations", nil, basic("gmail", secret)).refused(identity.CodeUnauthenticated)
	n.follow("", basic("gmail", secret)).synced()
	for _, role := range []identity.Role{identity.RoleOperator, identity.RoleAuditor, identity.RoleRuntime} {
		g.addToken(t, "dpt_"+string(role), identity.APIToken{Name: "x", Roles: []identity.Role{role}})
		n.follow("", token("dpt_"+string(role))).synced()
	}
}

func TestStreamsAreBounded(t *testing.T) {
	g := newGroup(t, 1)
	n := quick(g.nodes[0])
	auditor := g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	n.api.streams.of["token "+auditor.ID] = maxCallerStreams
	a := n.send("GET", streamPath, nil, token("dpt_auditor"))
	a.refused(identity.CodeOverloaded)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	others := n.follow("")
	others.synced()

	taken := func(n *node, by int) {
		n.api.streams.mu.Lock()
		defer n.api.streams.mu.Unlock()
		n.api.streams.all += by
	}
	taken(n, maxStreams-1)
	n.send("GET", streamPath, nil).refused(identity.CodeOverloaded)
	taken(n, 1-maxStreams)
	require.EqualValues(t, 1, n.metric("deputy_api_streams", ""))
	others.cancel()
	<-others.done
	require.Eventually(t, func() bool {
		g.revoke(t, "ses_a") // what is written next finds that nobody is there
		return n.metric("deputy_api_streams", "") == 0
	}, 10*time.Second, time.Millisecond)
	require.Len(t, n.api.streams.of, 1, "who has left is not remembered")
}

func TestStreamThatNobodyReadsEnds(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	for range 3 {
		require.Equal(t, 200, n.send("HEAD", streamPath, nil).Status)
	}
	require.Eventually(t, func() bool { return n.metric("deputy_api_streams", "") == 0 }, 5*time.Second, time.Millisecond)
}

func TestStreamsEndWhenTheNodeShutsDown(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	f := n.follow("")
	f.synced()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, n.server.ShutdownWithContext(ctx))
	require.Equal(t, wire.EndShutdown, f.ends())
}

// Every follower, whenever it comes, has all that was revoked: what is in its snapshot, and all that follows.
func TestSnapshotAndWhatFollowsLeaveNoGap(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.t = t
	const each, writers = 300, 3
	at := make(map[identity.Handle]uint64) // index of each
	var mu sync.Mutex
	var writing, following sync.WaitGroup
	begin := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			<-begin
			for i := range each {
				h := identity.Handle(fmt.Sprintf("agt_a%d#%d", w, i))
				if i%3 == 0 {
					n.deny(h)
				}
				index := g.revoke(t, h)
				mu.Lock()
				at[h] = index
				mu.Unlock()
			}
		})
	}
	followers := make([]*follower, 12)
	wait := make([]int, len(followers))
	for i := range followers {
		wait[i] = rand.IntN(each * writers)
	}
	for i := range followers {
		following.Go(func() {
			<-begin
			deadline := time.Now().Add(30 * time.Second)
			for n.revoked.Len() < wait[i] && time.Now().Before(deadline) {
				<-n.fsm.Changed()
			}
			f := n.follow("")
			synced := f.synced()
			var whole map[identity.Handle]bool
			f.mu.Lock()
			whole = make(map[identity.Handle]bool, len(f.have))
			for h := range f.have {
				whole[h] = true
			}
			f.mu.Unlock()
			mu.Lock()
			defer mu.Unlock()
			for h, index := range at {
				if index <= synced.data.Index && !whole[h] {
					t.Errorf("a snapshot at index %d lacks %s of index %d", synced.data.Index, h, index)
				}
			}
			followers[i] = f
		})
	}
	close(begin)
	writing.Wait()
	last := g.revoke(t, "ses_last")
	following.Wait()
	for _, f := range followers {
		f.await("the last handle", func() bool { return f.index == last })
		for h := range at {
			got, ok := f.have[h]
			require.True(t, ok, h)
			require.False(t, got.Provisional, h)
		}
		require.Len(t, f.have, len(at)+1)
	}
}

func TestSnapshotOfAHundredThousandHandles(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	many := 100_000
	if racedetector.Enabled { // a piece holds 256 KiB at most, which 20,000 are enough to exceed five times over
		many = 20_000
	}
	for i := range many {
		n.revoked.Add(revocation.Entry{Handle: identity.Handle(fmt.Sprintf("usr_user%d@company.com#%d", i, i)), Expires: 4e12})
	}
	started := time.Now()
	f := n.follow("")
	synced := f.synced()
	t.Logf("%d handles in %s", many, time.Since(started))
	require.EqualValues(t, many, synced.data.Count)
	require.Len(t, f.have, many)
	for _, e := range f.named(wire.EventSnapshot) {
		require.LessOrEqual(t, len(e.data.Entries), wire.MaxStreamEntries)
	}

	// However large the set, a stream holds one event of it.
	s := openStream(t, n)
	piece, most := make([]byte, 4<<10), 0
	for s.seen == 0 || len(s.unsent) > 0 {
		_, err := s.Read(piece)
		require.NoError(t, err)
		most = max(most, cap(s.buffer))
	}
	require.NoError(t, s.Close())
	require.Less(t, most, 256<<10)
}

// openStream begins a stream that nobody but the test reads.
func openStream(t testing.TB, n *node) *eventStream {
	t.Helper()
	s := &eventStream{api: n.api, conn: discardConn{}, looked: time.Now(), timer: time.NewTimer(time.Hour)}
	require.NoError(t, n.api.streams.enter(" "))
	s.begin(0, false)
	return s
}

// What one commit brings may be more than fits an event. Its index comes with the last part.
func TestLargeCommitComesInParts(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	f := n.follow("")
	f.synced()
	var handles []identity.Handle
	for i := range 2*wire.MaxStreamEntries - 1 {
		handles = append(handles, identity.Handle(fmt.Sprintf("agt_a#%d", i+1)))
	}
	at := g.revoke(t, handles...)
	f.await("all of it", func() bool { return f.index == at })
	require.True(t, f.has(handles...)())
	deny, commit := f.named(wire.EventDeny), f.named(wire.EventCommit)
	require.Len(t, deny, 1)
	require.Zero(t, deny[0].id)
	require.Len(t, commit, 1)
	require.Len(t, commit[0].data.Entries, wire.MaxStreamEntries-1)
}

// socketBytes is what a socket may hold. One that the kernel lets grow holds megabytes before anybody notices that
// nobody reads.
const socketBytes = 64 << 10

// narrow is a listener whose connections hold little that is still to be sent.
type narrow struct{ net.Listener }

// Accept implements net.Listener.
func (l narrow) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn, conn.(*net.TCPConn).SetWriteBuffer(socketBytes)
}

// A client that reads nothing is hung up on, and others are not held up. It then goes on from where it was.
func TestClientThatDoesNotReadIsHungUpOn(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.api.streams.heartbeat, n.api.streams.stall = 20*time.Millisecond, 200*time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := n.api.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(narrow{listener}) }()
	t.Cleanup(func() {
		require.NoError(t, server.ShutdownWithContext(context.Background()))
		require.NoError(t, <-served)
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+streamPath, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "SSWS "+n.root)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(socketBytes)
		}
		return conn, err
	}}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, 200, response.StatusCode)

	reading := n.follow("")
	reading.synced()
	var last uint64
	for i := 0; n.metric("deputy_api_streams_ended_total", endedByClient) == 0; i++ {
		require.Less(t, i, 2000, "still connected after all that the sockets can hold")
		var handles []identity.Handle
		for k := range 400 {
			handles = append(handles, identity.Handle(fmt.Sprintf("agt_%0100d#%d", k, i)))
		}
		last = g.revoke(t, handles...)
	}
	reading.await("all of it", func() bool { return reading.index == last })

	// What it had taken in before it was cut off, it has.
	slow := &follower{t: t, have: map[identity.Handle]wire.RevokedHandle{}, moved: make(chan struct{})}
	_ = readEvents(response.Body, func([]byte) error { return nil }, slow.take)
	require.NotZero(t, slow.index)
	require.Less(t, slow.index, last)
	again := n.follow(fmt.Sprintf("?from=%d", slow.index))
	again.await("the rest", func() bool { return again.index == last })
	for h := range reading.have {
		_, before := slow.have[h]
		_, after := again.have[h]
		require.True(t, before || after, h)
	}
	_, _ = io.Copy(io.Discard, response.Body)
}

// One that reads, but less than comes, falls out of the journal.
func TestFollowerThatFallsBehindIsToldSo(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	s := openStream(t, n)
	buffer := make([]byte, 4<<10)
	_, err := s.Read(buffer)
	require.NoError(t, err)
	for i := range revocation.MaxJournalEntries + 10 {
		n.deny(identity.Handle(fmt.Sprintf("ses_%d", i)))
	}
	text, err := io.ReadAll(s)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Contains(t, string(text), `"code":"behind"`)
	require.EqualValues(t, 1, n.metric("deputy_api_streams_ended_total", wire.EndBehind))
}

type discardConn struct{ net.Conn }

func (discardConn) SetWriteDeadline(time.Time) error { return nil }
