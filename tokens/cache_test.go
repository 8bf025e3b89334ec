package tokens

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func digestOf(n uint64) *digest {
	var d digest
	binary.LittleEndian.PutUint64(d[:], n)
	return &d
}

func (c *Cache) capacity() int { return len(c.buckets) * bucketEntries }

func (c *Cache) holds(n uint64) bool {
	d := digestOf(n)
	_, ok := c.bucket(d).index(d)
	return ok
}

func TestCacheIsBounded(t *testing.T) {
	for asked, got := range map[int]int{1: 8, 8: 8, 9: 16, 64: 64, 65: 128, 1000: 1024} {
		c := NewCache(asked)
		require.Equal(t, got, c.capacity())
		held := 0
		for n := range uint64(4 * got) {
			c.add(digestOf(n), &Claims{})
		}
		for n := range uint64(4 * got) {
			if c.holds(n) {
				held++
			}
		}
		require.Equal(t, got, held)
	}
}

func TestCacheOfNothingRemembersNothing(t *testing.T) {
	for _, c := range []*Cache{NewCache(0), NewCache(-1), nil} {
		require.Nil(t, c)
		c.add(digestOf(1), &Claims{})
		_, known := c.find(digestOf(1))
		require.False(t, known)
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := NewCache(bucketEntries)
	c.add(digestOf(0), &Claims{})
	for n := uint64(1); n < 1000; n++ {
		_, known := c.find(digestOf(0))
		require.True(t, known, "a flood of tokens that nobody presents must not drive out one in use")
		c.add(digestOf(n), nil)
	}
}

func TestCacheForgetsWhatIsNoLongerUsed(t *testing.T) {
	c := NewCache(bucketEntries)
	for n := range uint64(bucketEntries) {
		c.add(digestOf(n), nil)
		c.find(digestOf(n))
	}
	for n := range uint64(bucketEntries) {
		c.add(digestOf(100+n), nil)
	}
	for n := range uint64(bucketEntries) {
		require.False(t, c.holds(n))
		require.True(t, c.holds(100+n))
	}
}

func TestPlaceOfAForgottenTokenSaysNothingOfTheNext(t *testing.T) {
	c := NewCache(bucketEntries)
	for n := range uint64(bucketEntries) {
		c.add(digestOf(n), &Claims{})
	}
	c.add(digestOf(100), nil)
	claims, known := c.find(digestOf(100))
	require.True(t, known)
	require.Nil(t, claims)
}

func TestMintedTokenIsReadOnceAndThenShared(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	first, err := w.verifier.Verify(token)
	require.NoError(t, err)
	second, err := w.verifier.Verify(append([]byte(nil), token...))
	require.NoError(t, err)
	require.Same(t, first, second)
	// Minting the same bytes again must not take away what has been read.
	require.Equal(t, token, w.mint(t, delegated(t)))
	third, err := w.verifier.Verify(token)
	require.NoError(t, err)
	require.Same(t, first, third)
}

func TestCacheKnowsOnlyWhatWasSigned(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	token[len(token)-2] ^= 1
	for range 2 {
		_, err := w.verifier.Verify(token)
		requireReason(t, err, ReasonSignature)
	}
}

func TestCacheServesManyAtOnce(t *testing.T) {
	c := NewCache(64)
	var all sync.WaitGroup
	for worker := range uint64(4) {
		all.Go(func() {
			for n := range uint64(2000) {
				key := (n*7 + worker) % 200
				c.add(digestOf(key), &Claims{IssuedAt: int64(key)})
				if claims, known := c.find(digestOf(key)); known && claims.IssuedAt != int64(key) {
					t.Errorf("claims of token %d under %d", claims.IssuedAt, key)
				}
			}
		})
	}
	all.Wait()
}
