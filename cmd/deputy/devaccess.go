package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/deputy-id/deputy/internal/privatefile"
)

const devAccessDescription = "dev.json in the folder deputy of the user's configuration folder ($XDG_CONFIG_HOME or ~/.config)"

// devAccess is where a development node runs, and its root token. `deputy server --dev` writes it for the
// commands of the same user and removes it at its end.
type devAccess struct {
	Address string `json:"address"`
	Token   string `json:"token"`
}

func devAccessPath() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "deputy", "dev.json"), nil
}

// readDevAccess returns nil where no development node of this user runs.
func readDevAccess() (*devAccess, error) {
	path, err := devAccessPath()
	if err != nil {
		return nil, nil // a user without a configuration folder, such as a service's, has no such node
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a token and others can read it; remove it, or chmod 600 it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	access := &devAccess{}
	if err := json.Unmarshal(text, access); err != nil {
		return nil, fmt.Errorf("%s is damaged; remove it: %w", path, err)
	}
	return access, nil
}

func (d *devAccess) write() (path string, err error) {
	path, err = devAccessPath()
	if err != nil {
		return "", fmt.Errorf("finding the user's configuration folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	return path, privatefile.Replace(path, append(text, '\n'))
}

// remove takes the file away, unless another node has put its own there since.
func (d *devAccess) remove() {
	now, err := readDevAccess()
	if err != nil || now == nil || *now != *d {
		return
	}
	if path, err := devAccessPath(); err == nil {
		_ = os.Remove(path) // a stale file only names a node that is gone
	}
}
