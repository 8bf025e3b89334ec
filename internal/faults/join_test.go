package faults

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// refusedWait is how long a node that may not join needs to find that out.
const refusedWait = 30 * time.Second

func TestFourthNodeJoinsMintsAndIsRemoved(t *testing.T) {
	f := newFleet(t, 3)
	who := f.cast(t)
	l := startLoad(t, f)
	l.requireProgress(t, 20, resumeWait)

	fourth := f.join(t)
	f.requireVouched(t, fourth, who, l.newestIndex())
	f.requireVouched(t, f.nodes[0], who, l.newestIndex())
	for _, n := range f.nodes {
		members, err := f.members(t, n)
		require.NoError(t, err)
		require.Len(t, members, 4, "at %s", n.id)
	}
	old := f.requireMint(t, fourth, who, l.newestIndex())

	c := f.client(t)
	removed, err := c.RemoveMember(within(t, requestWait), fourth.id, "no longer needed")
	require.NoError(t, err)
	require.Equal(t, fourth.id, removed.ID)
	f.nodes = f.nodes[:3]

	for _, n := range f.nodes {
		eventually(t, requestWait, n.id+" to list three members", func() error {
			members, err := f.members(t, n)
			if err == nil && len(members) != 3 {
				err = fmt.Errorf("%d members", len(members))
			}
			return err
		})
		f.requireActive(t, n, who, old.AccessToken, true, c.Index()) // removal is no distrust: its tokens end by themselves
	}
	requireSilenced(t, fourth, who)
	l.mark()
	l.requireProgress(t, 20, resumeWait)

	// It hears from a member that it was removed, says so and ends.
	require.Contains(t, fourth.end(t, refusedWait), "was removed")

	// Its id is never used again, not even by a new node with a good token.
	require.NoError(t, os.RemoveAll(filepath.Join(fourth.dir, "data")))
	file := filepath.Join(fourth.dir, "join-token")
	require.NoError(t, os.WriteFile(file, []byte(f.joinToken(t, 0).Token), 0o600))
	fourth.launch(t)
	require.Contains(t, fourth.end(t, refusedWait), "removed")

	l.end(t)
	l.requireAll(t)
}

// requireSilenced waits until a removed node neither mints nor introspects, and makes sure that it stays so.
func requireSilenced(t *testing.T, n *node, who cast) {
	t.Helper()
	c := n.client(t, "")
	refuses := func() error {
		if _, err := c.MintToken(within(t, requestWait), who.agent, client.TokenOptions{}); err == nil {
			return errors.New("it mints")
		} else if !silenced(err) {
			return fmt.Errorf("it refuses to mint for another reason: %w", err)
		}
		if _, err := c.Introspect(within(t, requestWait), who.application, "x"); err == nil || !silenced(err) {
			return fmt.Errorf("it introspects: %w", err)
		}
		return nil
	}
	eventually(t, requestWait, n.id+" to fall silent", refuses)
	require.NoError(t, refuses(), "%s speaks again", n.id)
}

func silenced(err error) bool {
	var no *client.Error
	return errors.As(err, new(*client.UnreachableError)) || (errors.As(err, &no) && no.Status == 503)
}

func TestUsedOrExpiredJoinTokenIsRefused(t *testing.T) {
	f := newFleet(t, 3)
	short := f.joinToken(t, identity.MinSessionSeconds)
	expired := time.Now().Add(identity.MinSessionSeconds * time.Second)

	token := f.joinToken(t, 0).Token
	friend := f.prepare(t, token)
	friend.start(t)
	f.nodes = append(f.nodes, friend)

	// Each is refused by a process that ends with an error and says why.
	refused := func(name, token string, says ...string) {
		t.Run(name, func(t *testing.T) {
			n := f.prepare(t, token)
			n.launch(t)
			words := n.end(t, refusedWait)
			for _, word := range says {
				require.Contains(t, words, word)
			}
		})
	}
	refused("used", token, "join token", "used")
	refused("nonsense", "open-sesame", "the join token is not one")
	refused("guessed secret", altered(t, f.joinToken(t, 0).Token, func(token map[string]any) {
		token["s"] = strings.Repeat("A", 43)
	}), "join token")

	t.Run("other keys at the members' addresses", func(t *testing.T) {
		n := f.prepare(t, altered(t, f.joinToken(t, 0).Token, func(token map[string]any) {
			for _, m := range token["m"].([]any) {
				m.(map[string]any)["k"] = make([]byte, ed25519.PublicKeySize)
			}
		}))
		n.launch(t)
		// It goes on trying, as the right ones may come up yet, and shows its secret to nobody.
		eventually(t, refusedWait, "the node to say what is wrong", func() error {
			if words := n.lastWords(); !strings.Contains(words, "another key") {
				return errors.New(words)
			}
			return nil
		})
		require.Error(t, n.ready())
	})

	t.Run("member restarts with its used token", func(t *testing.T) {
		require.NoError(t, friend.stop(t, os.Interrupt))
		friend.start(t)
	})

	eventually(t, 2*identity.MinSessionSeconds*time.Second, "the token to expire", func() error {
		if left := time.Until(expired.Add(time.Second)); left > 0 {
			return fmt.Errorf("%s are left", left)
		}
		return nil
	})
	refused("expired", short.Token, "join token", "expired")

	for _, n := range f.nodes {
		members, err := f.members(t, n)
		require.NoError(t, err)
		require.Len(t, members, 4, "at %s: the three and the friend", n.id)
	}
}

// altered changes what a join token says. Its form is a prefix and JSON in base64.
func altered(t *testing.T, token string, change func(map[string]any)) string {
	t.Helper()
	const prefix = "dpj_"
	body, ok := strings.CutPrefix(token, prefix)
	require.True(t, ok, "a join token begins with %s", prefix)
	text, err := base64.RawURLEncoding.DecodeString(body)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(text, &fields))
	change(fields)
	text, err = json.Marshal(fields)
	require.NoError(t, err)
	return prefix + base64.RawURLEncoding.EncodeToString(text)
}
