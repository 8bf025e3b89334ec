package proofs_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

const minute identity.Instant = 60_000

func TestNonceIsGoodForAtLeastThreeMinutes(t *testing.T) {
	n := proofs.NewNonces("n1", [32]byte{1})
	slot := now - now%minute
	first := n.Current(slot)
	require.Len(t, first, 22)
	require.Equal(t, first, n.Current(slot+minute-1))
	require.NotEqual(t, first, n.Current(slot+minute))
	for at, good := range map[identity.Instant]bool{
		slot - 1: false, slot: true, slot + minute: true, slot + 4*minute - 1: true, slot + 4*minute: false,
	} {
		require.Equal(t, good, n.Valid(first, at), "%d ms after", at-slot)
	}
}

func TestNonceOfAnotherNodeOrProcessIsRefused(t *testing.T) {
	n := proofs.NewNonces("n1", [32]byte{1})
	nonce := n.Current(now)
	require.True(t, proofs.NewNonces("n1", [32]byte{1}).Valid(nonce, now))
	require.False(t, proofs.NewNonces("n2", [32]byte{1}).Valid(nonce, now), "another node")
	require.False(t, proofs.NewNonces("n1", [32]byte{2}).Valid(nonce, now), "another process")
	for _, wrong := range []string{"", nonce[:21], nonce + "A", "AAAAAAAAAAAAAAAAAAAAAA"} {
		require.False(t, n.Valid(wrong, now), wrong)
	}
}

func TestNoncesAreTheSameWhoeverAsksFirst(t *testing.T) {
	n := proofs.NewNonces("n1", [32]byte{1})
	want := proofs.NewNonces("n1", [32]byte{1})
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			for j := range 500 {
				at := now + identity.Instant(i*j)*1000
				if nonce := n.Current(at); !n.Valid(nonce, at+minute) {
					t.Errorf("the nonce of %s is not good a minute later", at)
				}
			}
		})
	}
	asking.Wait()
	require.Equal(t, want.Current(now), n.Current(now))
}
