// Package privatefile writes small files that only their owner may read and that a crash can't leave half
// written: keys, tokens, the list of peers.
//
// After a crash at any moment the name holds either the old content or the new, or, with Create, nothing or all
// of it. Content and name are on disk when the call returns.
package privatefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Replace writes a file with mode 0600 in place of whatever has the name.
func Replace(path string, content []byte) error {
	if err := write(path, content, os.Rename); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// Create writes a file with mode 0600 and never replaces one: where the name is taken the error wraps
// fs.ErrExist.
func Create(path string, content []byte) error {
	// A link, unlike a rename, fails where the name is taken.
	if err := write(path, content, os.Link); err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	return nil
}

// write makes a draft beside the file and has publish give it the name.
func write(path string, content []byte, publish func(draft, path string) error) (err error) {
	folder := filepath.Dir(path)
	draft, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		// A rename took the draft's name away; a link or a failure leaves it.
		if gone := os.Remove(draft.Name()); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	_, err = draft.Write(content)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	if err := publish(draft.Name(), path); err != nil {
		return err
	}
	// The new name is durable only once the folder is.
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
