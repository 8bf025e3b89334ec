package tokens

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestSignerIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	made, err := LoadOrCreateSigner(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	loaded, err := LoadOrCreateSigner(path)

	require.NoError(t, err)
	require.Equal(t, made, loaded)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no draft is left behind")
}

func TestSignerKeepsItsNoteWithTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	first, err := LoadOrCreateSigner(path)
	require.NoError(t, err)
	require.Zero(t, first.Note())
	next, err := GenerateSigner()
	require.NoError(t, err)
	note := Note{Made: 1 << 63, Since: noon}

	stored, err := next.Store(path, note)

	require.NoError(t, err)
	require.Equal(t, note, stored.Note())
	require.Zero(t, next.Note(), "a signer that others hold stays as it is")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	loaded, err := LoadSigner(path)
	require.NoError(t, err)
	require.Equal(t, stored, loaded)
	require.NotEqual(t, first.KID(), loaded.KID())
}

func TestLoadingASignerMakesNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key.next")
	_, err := LoadSigner(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoFileExists(t, path)
}

func TestSignerIsTheSameForAllWhoMakeItAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	kids := make([]string, 8)
	var all sync.WaitGroup
	for i := range kids {
		all.Go(func() {
			signer, err := LoadOrCreateSigner(path)
			if err != nil {
				t.Error(err)
				return
			}
			kids[i] = signer.KID()
		})
	}
	all.Wait()
	for _, kid := range kids {
		require.Equal(t, kids[0], kid)
	}
}

func TestSignerRefusesAFileThatOthersMayRead(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		path := filepath.Join(t.TempDir(), "token.key")
		_, err := LoadOrCreateSigner(path)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(path, mode))
		_, err = LoadOrCreateSigner(path)
		require.ErrorContains(t, err, "chmod 600")
		require.ErrorContains(t, err, "revoke")
	}
}

func TestSignerRefusesADamagedOrForeignFileAndKeepsIt(t *testing.T) {
	block := func(kind string, size int, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: make([]byte, size), Headers: headers}))
	}
	good := block(signerBlock, 32, nil)
	for name, content := range map[string]string{
		"empty":                  "",
		"cut off":                good[:len(good)-20],
		"something after it":     good + "x",
		"two keys":               good + good,
		"a node's identity":      block("PRIVATE KEY", 48, nil),
		"a key of another size":  block(signerBlock, 64, nil),
		"with headers":           block(signerBlock, 32, map[string]string{"DEK-Info": "AES"}),
		"with half a note":       block(signerBlock, 32, map[string]string{"Made-At-Index": "7"}),
		"with a note and more":   block(signerBlock, 32, map[string]string{"Made-At-Index": "7", "Signs-Since": "1", "X": "y"}),
		"with a negative index":  block(signerBlock, 32, map[string]string{"Made-At-Index": "-7", "Signs-Since": "1"}),
		"with a negative time":   block(signerBlock, 32, map[string]string{"Made-At-Index": "7", "Signs-Since": "-1"}),
		"megabytes of something": string(make([]byte, 2<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token.key")
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			_, err := LoadOrCreateSigner(path)
			require.ErrorContains(t, err, "move this one away and start again")
			kept, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, content, string(kept))
		})
	}
}

func TestSignerRefusesWhatIsNoFile(t *testing.T) {
	folder := t.TempDir()
	_, err := LoadOrCreateSigner(folder)
	require.ErrorContains(t, err, "not a regular file")

	link := filepath.Join(folder, "link")
	require.NoError(t, os.Symlink("/dev/zero", link))
	_, err = LoadOrCreateSigner(link)
	require.ErrorContains(t, err, "not a regular file")

	_, err = LoadOrCreateSigner(filepath.Join(folder, "nowhere", "token.key"))
	require.ErrorContains(t, err, "storing the token key")
}

func TestSigningKeyDescribesThePublicHalf(t *testing.T) {
	signer, err := GenerateSigner()
	require.NoError(t, err)
	require.Equal(t, identity.SigningKey{
		KID: signer.KID(), Node: "n1", Alg: "EdDSA", Public: signer.Public(), Created: noon,
	}, signer.SigningKey("n1", noon))
}

func TestSignerNeverShowsItsPrivateHalf(t *testing.T) {
	signer, err := GenerateSigner()
	require.NoError(t, err)
	var text, structured bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("made", "key", signer)
	slog.New(slog.NewJSONHandler(&structured, nil)).Info("made", "key", signer)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", signer, signer, signer, signer), text.String(), structured.String()} {
		require.NotContains(t, shown, fmt.Sprint([]byte(signer.private))[1:20])
		require.NotContains(t, shown, "private")
		require.NotContains(t, shown, "0x")
	}
}

func TestThumbprintIsThatOfTheRFC(t *testing.T) {
	// RFC 8037 appendix A.3.
	public, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", thumbprint(public))
}
