package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds what is read: a day of seconds for ten subjects has about 10 MiB.
const maxFile = 64 << 20

// suffix is that of results in a folder.
const suffix = ".json"

// ErrNewer means that a file was written by a later version of this program.
var ErrNewer = errors.New("written by a newer version of deputy")

// ErrNoResult means that a file holds something else.
var ErrNoResult = errors.New("not a benchmark's result")

// Write writes the result as one JSON document. It sets its kind and version.
func (r *Result) Write(w io.Writer) error {
	r.Kind, r.Version = Kind, Version
	if r.Runs == 0 {
		r.Runs = 1
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("BUG: the result contradicts itself: %w", err)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Read reads what Write wrote.
func Read(in io.Reader) (*Result, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %d MiB", maxFile>>20)
	}
	var head struct {
		Kind    string `json:"kind"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoResult, err)
	}
	switch {
	case head.Kind != Kind:
		return nil, fmt.Errorf("%w: its kind is %q, where %q is expected (deputy bench … --json FILE writes one)", ErrNoResult, head.Kind, Kind)
	case head.Version > Version:
		return nil, fmt.Errorf("%w: it has version %d, and this one reads up to %d; upgrade deputy to read it", ErrNewer, head.Version, Version)
	case head.Version < 1:
		return nil, fmt.Errorf("%w: its version is %d; versions begin at 1", ErrNoResult, head.Version)
	}
	r := new(Result)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoResult, err)
	}
	if r.Runs == 0 {
		r.Runs = 1
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoResult, err)
	}
	return r, nil
}

// WriteFile writes the result to a file, which it replaces.
func (r *Result) WriteFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(r.Write(f), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// ReadFile reads one result.
func ReadFile(name string) (*Result, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return r, nil
}

// ReadAll reads the results that the names mean: files, and folders of files that end in .json, in order. Of a folder
// it passes over what is no result, but not over what it can't read.
func ReadAll(names ...string) ([]*Result, error) {
	var results []*Result
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			r, err := ReadFile(name)
			if err != nil {
				return nil, err
			}
			results = append(results, r)
			continue
		}
		found, err := readFolder(name)
		if err != nil {
			return nil, err
		}
		results = append(results, found...)
	}
	return results, nil
}

func readFolder(name string) ([]*Result, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var results []*Result
	for _, entry := range entries {
		if entry.IsDir() || !strings.HasSuffix(entry.Name(), suffix) {
			continue
		}
		r, err := ReadFile(filepath.Join(name, entry.Name()))
		if errors.Is(err, ErrNoResult) {
			continue
		}
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("folder %s holds no result (deputy bench … --json FILE writes one)", name)
	}
	return results, nil
}
