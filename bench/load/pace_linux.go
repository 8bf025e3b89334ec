package load

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pacer waits exactly. A timer of the runtime ends up to a millisecond late where nothing else goes on, as the runtime
// then sleeps in whole milliseconds; the kernel's own timer wakes it like a socket would.
type pacer struct {
	file *os.File
	raw  syscall.RawConn
	wake func(fd uintptr) bool // made once: a closure for each wait would allocate

	duration time.Duration
	armed    bool
}

func newPacer() (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	p := &pacer{file: os.NewFile(uintptr(fd), "timer")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.close()
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	p.wake = p.turn
	return p, nil
}

// wait returns once the duration has passed.
func (p *pacer) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	p.duration, p.armed = d, false
	if err := p.raw.Read(p.wake); err != nil || !p.armed {
		time.Sleep(d) // less exact, and the lag will show it
	}
}

// turn is called once before the wait, where it sets the timer, and after it. The timer is never read: setting it anew
// forgets that it has run out, and the runtime hears of each time that it does.
func (p *pacer) turn(fd uintptr) bool {
	if !p.armed {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(p.duration))}
		if unix.TimerfdSettime(int(fd), 0, &spec, nil) != nil {
			return true
		}
		p.armed = true
		return false
	}
	return true
}

func (p *pacer) close() { p.file.Close() }
