package sim

import (
	"sync"
	"time"
)

// clock is a node's two clocks. The boot clock counts from a beginning of the node's own and at a rate of its own;
// while the node is suspended it is seen to stand still, and afterwards to have leapt. The wall clock may be
// wrong.
type clock struct {
	mu     sync.Mutex
	origin time.Time
	offset time.Duration
	rate   float64
	frozen time.Duration // what the boot clock shows while the node is suspended; 0: it runs
	skew   time.Duration // of the wall clock
}

// maxDrift is how much faster or slower than true a boot clock runs: fifty times what a bad quartz does, and half
// of what cluster.LeaseDrift allows two of them together.
const maxDrift = 0.004

func newClock(random *source) *clock {
	return &clock{
		origin: time.Now(), offset: random.between(time.Second, time.Hour), rate: 1 + random.around(maxDrift),
		skew: random.between(-400*time.Millisecond, 400*time.Millisecond),
	}
}

func (c *clock) boot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen > 0 {
		return c.frozen
	}
	return c.running()
}

func (c *clock) running() time.Duration {
	return c.offset + time.Duration(float64(time.Since(c.origin))*c.rate)
}

func (c *clock) wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

func (c *clock) suspend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen == 0 {
		c.frozen = c.running()
	}
}

func (c *clock) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = 0
}

// setSkew puts the wall clock wrong and returns how wrong it was.
func (c *clock) setSkew(skew time.Duration) (before time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.skew = c.skew, skew
	return before
}
