package server_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/server"
)

func TestJoinTokenReadsBackAsWritten(t *testing.T) {
	token := server.JoinToken{
		Cluster: "cls_1", Secret: "s3cret",
		Members: []server.JoinTarget{{Address: "127.0.0.1:8411", Key: bytes.Repeat([]byte{7}, 32)}},
	}
	again, err := server.ParseJoinToken(token.String() + "\n")
	require.NoError(t, err)
	require.Equal(t, token, again)
}

func TestGarbageIsNoJoinTokenAndIsNeverRepeated(t *testing.T) {
	short := server.JoinToken{Secret: "s3cret", Members: []server.JoinTarget{{Address: "a:1", Key: []byte{1}}}}
	nobody := server.JoinToken{Secret: "s3cret"}
	for _, text := range []string{"", "s3cret", "dpj_", "dpj_s3cret!", "dpj_e30", short.String(), nobody.String()} {
		_, err := server.ParseJoinToken(text)
		require.Equal(t, identity.CodeJoinTokenInvalid, identity.CodeOf(err), text)
		require.NotContains(t, err.Error(), "s3cret")
	}
}
