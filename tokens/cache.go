package tokens

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"
)

// Cache remembers tokens whose signature held, by the SHA-256 of their exact bytes, so that a token is
// checked once and not at every call. It says nothing about times, issuers, keys or revocations: only a
// Verifier reads it, and judges all of those every time.
//
// Memory is bounded by the number of entries: each costs 41 bytes from the start, and about 1.3 kB more
// once its token has been verified. It is split into buckets of eight entries with a lock each; a full bucket
// gives up the entry that was not used since the bucket's hand last passed over it. A new entry counts as
// unused, so that a flood of tokens that nobody presents does not drive out those in use.
//
// The nil Cache is valid and remembers nothing. All methods are safe for concurrent use.
type Cache struct {
	buckets []bucket
	mask    uint64
}

const (
	bucketEntries = 8
	// maxCacheEntries keeps a slip of the keyboard from taking more than 700 MB before the first request.
	maxCacheEntries = 1 << 24
)

type digest = [sha256.Size]byte

type bucket struct {
	mu      sync.Mutex
	taken   uint8 // a bit for each entry that is there
	used    uint8 // a bit for each entry that was found since the hand passed
	hand    uint8
	digests [bucketEntries]digest
	claims  [bucketEntries]*Claims // nil where Mint signed the token and nobody has presented it yet
}

// NewCache makes a cache for at least that many entries: the number is rounded up to eight times a power of
// two, and held to 2^24. Zero or less makes the cache that remembers nothing.
func NewCache(entries int) *Cache {
	if entries <= 0 {
		return nil
	}
	wanted := (min(entries, maxCacheEntries) + bucketEntries - 1) / bucketEntries
	n := 1 << bits.Len(uint(wanted-1))
	return &Cache{buckets: make([]bucket, n), mask: uint64(n - 1)}
}

func (c *Cache) bucket(d *digest) *bucket {
	return &c.buckets[binary.LittleEndian.Uint64(d[:8])&c.mask]
}

// find reports whether the signature of the token is known to hold, and returns its claims where they have
// been read before.
func (c *Cache) find(d *digest) (claims *Claims, known bool) {
	if c == nil {
		return nil, false
	}
	b := c.bucket(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	i, known := b.index(d)
	if !known {
		return nil, false
	}
	b.used |= 1 << i
	return b.claims[i], true
}

// add remembers a token whose signature was made or checked by this process. The claims may be nil: then they
// are read when the token is first presented, so that a mint allocates nothing for them.
func (c *Cache) add(d *digest, claims *Claims) {
	if c == nil {
		return
	}
	b := c.bucket(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	i, known := b.index(d)
	if !known {
		i = b.vacate()
		b.digests[i], b.claims[i] = *d, nil
		b.taken |= 1 << i
		b.used &^= 1 << i
	}
	if claims != nil {
		b.claims[i] = claims
	}
}

func (b *bucket) index(d *digest) (i int, ok bool) {
	for i := range b.digests {
		if b.taken&(1<<i) != 0 && b.digests[i] == *d {
			return i, true
		}
	}
	return 0, false
}

// vacate returns the place for a new entry. Each step of the hand clears a used bit, so it takes nine at most.
func (b *bucket) vacate() int {
	if free := bits.TrailingZeros8(^b.taken); free < bucketEntries {
		return free
	}
	for {
		i := b.hand
		b.hand = (b.hand + 1) % bucketEntries
		if b.used&(1<<i) == 0 {
			return int(i)
		}
		b.used &^= 1 << i
	}
}
