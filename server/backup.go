package server

import (
	"io"

	"github.com/deputy-id/deputy/fsm"
)

// BackupInfo describes a backup that was found to be whole.
type BackupInfo = fsm.BackupInfo

// InspectBackup reads a backup to its end, without a cluster, and says what it holds.
func InspectBackup(backup io.Reader) (BackupInfo, error) { return fsm.InspectBackup(backup) }
