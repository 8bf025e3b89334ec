package audit

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/deputy-id/deputy/identity"
)

// What may go wrong, told apart by what the caller can do about it. Match with errors.Is.
var (
	// ErrInvalid: the record is not one that a log takes. It is a mistake in the program that made it.
	ErrInvalid = errors.New("not an audit record")
	// ErrFull: the queue had no room before the context ended. Nothing was recorded.
	ErrFull = errors.New("the queue of the audit log is full")
	// ErrWrite: the record couldn't be written. What it speaks of must not be answered as done. Every append fails in
	// this way until writing works again.
	ErrWrite = errors.New("the audit log can't be written")
	// ErrUnknown: the context ended before the record was known to be written, or it was written and could not be
	// synced. It may or may not be there, and what it speaks of must not be answered as done.
	ErrUnknown = errors.New("whether the audit record was written is unknown")
	// ErrClosed: the log is closed.
	ErrClosed = errors.New("the audit log is closed")
	// ErrInUse: another process has the log open.
	ErrInUse = errors.New("the audit log is in use by another process")
	// ErrCorrupt: the log was changed, or the disk lost something; the message names the file and says what to do.
	ErrCorrupt = errors.New("the audit log is damaged")
	// ErrNoRecord: the log has no such record: it isn't written yet, or was removed after its time.
	ErrNoRecord = errors.New("no such audit record")
	// ErrNoCheckpoint: the record is there, but no checkpoint covers it yet; ask again in a moment.
	ErrNoCheckpoint = errors.New("no checkpoint covers the audit record yet")
	// ErrUnknownNode: the checkpoint is of a node whose key isn't known.
	ErrUnknownNode = errors.New("the node isn't known")
	// ErrForked: a node's checkpoint contradicts one that it gave before. Its log was changed or cut off.
	ErrForked = errors.New("the checkpoint contradicts an earlier one")
	// ErrTooMany: a bound was reached.
	ErrTooMany = errors.New("there are too many")
)

// unmarshalLine decodes members of a line whose frame is known to be good.
func unmarshalLine(line []byte, into any) error {
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("its members can't be read: %w", err)
	}
	return nil
}

const logPrefix = "log_"

func validLogID(id string) bool {
	_, err := identity.ParseID(logPrefix, id)
	return err == nil
}
