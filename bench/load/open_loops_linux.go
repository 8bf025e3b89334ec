package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// tidyEvery is how often a loop looks for calls that take too long and shows how far it has come. It bounds how long
	// a loop sleeps.
	tidyEvery = 20 * time.Millisecond
	// burst is how many requests a loop sends at most before it looks for answers.
	burst = 32
	// laneWidth is how many connections of each node a loop has at least if there are several: a request waits for those of
	// its own loop, however idle others are.
	laneWidth = 32
)

// loops says in how many threads the generator carries an open load, and 0 where each connection needs a goroutine. Half of
// the CPUs are left to the kernel's part of the work, and to whoever else is on them.
func (g *Generator) loops() int {
	if g.blocking || slices.ContainsFunc(g.plan.Nodes, func(n Node) bool { return n.TLS != nil }) {
		return 0
	}
	return max(1, min(runtime.GOMAXPROCS(0)/2, len(g.workers)/len(g.plan.Nodes)/laneWidth))
}

// inLoops prepares the loops, each with its share of the connections of each node. The connections are made before the
// clock starts; one that can't be made now is tried again when it is needed.
func (r *openRun) inLoops(ctx context.Context, count int) (carry func(context.Context) error, end func(), err error) {
	g := r.generator
	g.dropWorkers()
	g.openLines(ctx)
	loops := make([]*loop, count)
	end = func() {
		for _, l := range loops {
			if l != nil {
				l.close()
			}
		}
	}
	for i := range loops {
		if loops[i], err = newLoop(r, i, len(loops)); err != nil {
			end()
			return nil, nil, err
		}
	}
	return func(ctx context.Context) error {
		var working errgroup.Group
		for _, l := range loops {
			working.Go(func() error { return l.carry(ctx) })
		}
		err := working.Wait()
		for _, l := range loops {
			r.result.Busiest = max(r.result.Busiest, l.busyFor)
		}
		return err
	}, end, nil
}

// lane is one node, as a loop sees it.
type lane struct {
	idle    chan *line
	waiting chan arrival
}

// loop carries its share of an open load in one thread, with the kernel's own means to wait for many sockets: in a
// goroutine for each connection, waking it up costs more than the request.
type loop struct {
	*openRun
	number, of int // which of how many
	poll       int
	timer      int
	wake       int // written to when there is something in made
	armed      time.Duration
	lines      []*line
	lanes      []lane
	busy       int // lines with a call under way
	dials      sync.WaitGroup
	made       chan made
	events     []unix.EpollEvent
	answered   []*line       // of one look at the events
	waited     time.Duration // with nothing to do
	busyFor    time.Duration // all the other time of the run
	deal       *dealer
	gathered   gathering
	offerings  *offerings
	tidied     time.Time
}

// What stands in an event in place of the number of a line.
const (
	timerEvent = -1
	wakeEvent  = -2
)

func newLoop(r *openRun, number, of int) (_ *loop, err error) {
	g := r.generator
	l := &loop{
		openRun: r, number: number, of: of, poll: noSocket, timer: noSocket, wake: noSocket, lanes: make([]lane, len(g.plan.Nodes)),
		made: make(chan made, len(g.lines)), events: make([]unix.EpollEvent, 128), deal: newDealer(&g.plan, r.options.Shape),
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making a poll: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making an event: %w", err)
	}
	for mark, fd := range map[int32]int{timerEvent: l.timer, wakeEvent: l.wake} {
		if err := l.watch(unix.EPOLL_CTL_ADD, fd, mark, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	for i := range l.lanes {
		l.lanes[i] = lane{
			idle: make(chan *line, len(g.lines)), waiting: make(chan arrival, max(1, r.options.Backlog/len(l.lanes)/of)),
		}
	}
	for i := range g.lines {
		if i/len(l.lanes)%of != number {
			continue
		}
		at := &g.lines[i]
		l.lines = append(l.lines, at)
		if at.socket != noSocket {
			if err := l.listen(at); err != nil {
				return nil, err
			}
		}
		l.lanes[at.call.Node].idle <- at
	}
	return l, nil
}

// watch has the poll report changes only: an event is not repeated until there is a new cause, so that nothing need be read
// to silence it.
func (l *loop) watch(how, fd int, mark int32, what uint32) error {
	if err := unix.EpollCtl(l.poll, how, fd, &unix.EpollEvent{Events: what | unix.EPOLLET, Fd: mark}); err != nil {
		return fmt.Errorf("adding to a poll: %w", err)
	}
	return nil
}

func (l *loop) listen(at *line) error {
	return l.watch(unix.EPOLL_CTL_ADD, at.socket, int32(at.number), unix.EPOLLIN|unix.EPOLLRDHUP) //nolint:gosec // at most MaxConnections
}

// close gives back what the loop holds, once nobody else uses it any more.
func (l *loop) close() {
	l.dials.Wait() // at most dialTimeout
	for range len(l.made) {
		if m := <-l.made; m.err == nil {
			unix.Close(m.socket)
		}
	}
	for _, fd := range []int{l.poll, l.timer, l.wake} {
		if fd != noSocket {
			unix.Close(fd)
		}
	}
}

func (l *loop) carry(ctx context.Context) error {
	l.gathered.begin(l.result, l.start)
	l.offerings, l.tidied = l.newOfferings(), l.start
	defer func() {
		now := time.Now()
		l.gathered.flush(now)
		l.tell(l.offerings, now)
		l.busyFor = now.Sub(l.start) - l.waited
	}()
	if err := l.await(ctx, l.start, 0); err != nil { // what nodes have closed since the last run
		return err
	}
	next, node, more := l.next()
	for more || l.busy > 0 {
		now := time.Now()
		for sent := 0; more && next.due <= now.Sub(l.start) && sent < burst; sent++ {
			l.offer(ctx, &next, &l.lanes[node], now)
			next, node, more = l.next()
			now = time.Now()
		}
		if now.Sub(l.tidied) >= tidyEvery {
			l.tidy(ctx, now)
			now = time.Now()
		}
		more = more && ctx.Err() == nil
		pause := tidyEvery
		if more {
			pause = min(pause, next.due-now.Sub(l.start))
		}
		if err := l.await(ctx, now, pause); err != nil {
			return err
		}
	}
	return nil
}

// next is the loop's next request: of each node, every round belongs to one loop.
func (l *loop) next() (a arrival, node int, more bool) {
	for {
		a, node, round, more := l.deal.next()
		if !more || round%l.of == l.number {
			return a, node, more
		}
	}
}

// offer sends a request on an idle connection, or has it wait for one.
func (l *loop) offer(ctx context.Context, a *arrival, to *lane, now time.Time) {
	l.offered(l.offerings, a)
	select {
	case at := <-to.idle:
		a.idle = true
		if !l.send(ctx, at, a) {
			to.idle <- at
		}
		return
	default:
	}
	a.lag = now.Sub(l.start) - a.due
	select {
	case to.waiting <- *a:
	default:
		l.skip(a, false)
	}
}

// send begins a call, unless it is too late for that.
func (l *loop) send(ctx context.Context, at *line, a *arrival) bool {
	taken := time.Now()
	if l.over(ctx, taken) {
		l.skip(a, false)
		return false
	}
	at.arrival, at.taken, at.calling = *a, taken, true
	l.busy++
	at.call.N, at.call.Operation, at.call.Due = a.n, int(a.op), l.start.Add(a.due)
	at.work.Next(&at.call)
	at.sent = time.Now()
	at.begin(at.call.Request)
	if at.socket == noSocket {
		l.dial(ctx, at)
		return true
	}
	l.write(ctx, at)
	return true
}

func (l *loop) write(ctx context.Context, at *line) {
	at.write(at.socket, rawWrite)
	if at.err == nil && len(at.request) > 0 { // the rest once there is room
		at.err = l.watch(unix.EPOLL_CTL_MOD, at.socket, int32(at.number), unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP) //nolint:gosec // as above
	}
	if at.err != nil {
		l.end(ctx, at)
	}
}

// await waits until something is due or happens, and deals with what has happened.
func (l *loop) await(ctx context.Context, now time.Time, pause time.Duration) error {
	timeout := -1
	if pause <= 0 {
		timeout = 0
	} else if err := l.arm(now.Sub(l.start), pause); err != nil {
		return err
	}
	before := time.Now()
	n, err := rawEpollWait(l.poll, l.events, timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for answers: %w", err)
	}
	l.waited += time.Since(before)
	for _, event := range l.events[:max(n, 0)] {
		switch event.Fd {
		case timerEvent:
			l.armed = 0
		case wakeEvent:
			l.connected(ctx)
		default:
			at := &l.generator.lines[event.Fd]
			at.ended = event.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 // it is not said again
			l.turn(ctx, at)
		}
	}
	for _, at := range l.answered { // after all are read: what it takes to judge one is not part of how long another took
		l.finish(ctx, at)
	}
	l.answered = l.answered[:0]
	return nil
}

// arm sets the timer, unless it will go off soon enough and not before there is something to do.
func (l *loop) arm(now, pause time.Duration) error {
	until := now + pause
	if l.armed >= until && l.armed <= until+gather {
		return nil
	}
	pause = max(pause, gather)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(pause))}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("setting a timer: %w", err)
	}
	l.armed = now + pause
	return nil
}

// turn goes on with a connection on which something has happened.
func (l *loop) turn(ctx context.Context, at *line) {
	if at.socket == noSocket { // dropped since
		return
	}
	if !at.calling {
		at.begin(nil)
		if at.read(at.socket, rawRead) || at.filled > 0 { // the node has closed it, or says what nobody has asked for
			at.drop()
		}
		return
	}
	if len(at.request) > 0 {
		l.write(ctx, at)
	}
	if at.calling && at.socket != noSocket && at.read(at.socket, rawRead) {
		at.done = time.Now()
		l.answered = append(l.answered, at)
	}
}

// end finishes a call that is over now.
func (l *loop) end(ctx context.Context, at *line) {
	at.done = time.Now()
	l.finish(ctx, at)
}

// finish judges a call that is over, and begins the next of its connection if one waits.
func (l *loop) finish(ctx context.Context, at *line) {
	var failure Failure
	if at.err != nil {
		failure = FailureOf(at.err)
		at.drop()
	} else {
		failure = at.work.Judge(&at.call, at.answer.status, at.body())
		if at.answer.close || at.ended || len(at.request) > 0 { // the rest of that can't be sent any more
			at.drop()
		}
	}
	at.calling = false
	l.busy--
	l.gathered.keep(l.observe(&at.arrival, at.taken, at.sent, at.done, failure), at.done)
	of := &l.lanes[at.call.Node]
	for {
		select {
		case a := <-of.waiting:
			if l.send(ctx, at, &a) {
				return
			}
		default:
			of.idle <- at
			return
		}
	}
}

// tidy ends calls that take too long, and shows how far the loop has come.
func (l *loop) tidy(ctx context.Context, now time.Time) {
	l.tidied = now
	for _, at := range l.lines {
		if at.calling && at.socket != noSocket && now.Sub(at.sent) > l.generator.timeout {
			at.err = os.ErrDeadlineExceeded
			l.end(ctx, at)
		}
	}
	if l.gathered.old(now) {
		l.gathered.flush(now)
	}
	if now.Sub(l.offerings.told) > flushAfter {
		l.tell(l.offerings, now)
	}
}
