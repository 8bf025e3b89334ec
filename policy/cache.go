package policy

import (
	"sync"
	"sync/atomic"

	"github.com/deputy-id/deputy/identity"
)

// Cache keeps policies compiled from one state of the cluster to the next. The zero Cache is ready, and safe for
// concurrent use.
type Cache struct {
	// Compiled, where it is set, hears of each set that was compiled, before any request gets it. It is set before the
	// first use.
	Compiled func(*Set)

	latest   atomic.Pointer[revisioned]
	previous atomic.Pointer[revisioned] // for a request that still reads the state before

	compiling sync.Mutex
}

type revisioned struct {
	revision uint64
	set      *Set
}

// At returns the policies of a state, which are the same as long as its revision is. A request reads both from one
// View, and so gets the policies of that very View, whatever other requests do meanwhile. List is called where they
// have to be compiled, and by one request at a time: those that want the new policies wait for them.
func (c *Cache) At(revision uint64, list func() []*identity.Policy) *Set {
	if s, ok := c.have(revision); ok {
		return s
	}
	c.compiling.Lock()
	defer c.compiling.Unlock()
	if s, ok := c.have(revision); ok {
		return s
	}
	latest := c.latest.Load()
	next := &revisioned{revision: revision}
	if latest != nil {
		next.set = compile(list(), latest.set)
	} else {
		next.set = Compile(list())
	}
	if c.Compiled != nil {
		c.Compiled(next.set)
	}
	if latest != nil && revision < latest.revision {
		c.previous.Store(next)
		return next.set
	}
	c.previous.Store(latest)
	c.latest.Store(next)
	return next.set
}

func (c *Cache) have(revision uint64) (*Set, bool) {
	if r := c.latest.Load(); r != nil && r.revision == revision {
		return r.set, true
	}
	if r := c.previous.Load(); r != nil && r.revision == revision {
		return r.set, true
	}
	return nil, false
}
