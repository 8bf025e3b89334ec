package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// hclogBridge lets raft and autopilot log through slog.
type hclogBridge struct {
	logger  *slog.Logger
	name    string
	implied []any
}

var _ hclog.Logger = (*hclogBridge)(nil)

func newHclog(logger *slog.Logger, name string) hclog.Logger {
	return &hclogBridge{logger: logger.With("component", name), name: name}
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug, hclog.NoLevel:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

func (b *hclogBridge) Log(level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if !b.logger.Enabled(context.Background(), to) {
		return
	}
	for i, arg := range args {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	b.logger.Log(context.Background(), to, msg, args...)
}

func (b *hclogBridge) Trace(msg string, args ...any) { b.Log(hclog.Trace, msg, args...) }
func (b *hclogBridge) Debug(msg string, args ...any) { b.Log(hclog.Debug, msg, args...) }
func (b *hclogBridge) Info(msg string, args ...any)  { b.Log(hclog.Info, msg, args...) }
func (b *hclogBridge) Warn(msg string, args ...any)  { b.Log(hclog.Warn, msg, args...) }
func (b *hclogBridge) Error(msg string, args ...any) { b.Log(hclog.Error, msg, args...) }

func (b *hclogBridge) is(level hclog.Level) bool {
	return b.logger.Enabled(context.Background(), slogLevel(level))
}

func (b *hclogBridge) IsTrace() bool { return b.is(hclog.Trace) }
func (b *hclogBridge) IsDebug() bool { return b.is(hclog.Debug) }
func (b *hclogBridge) IsInfo() bool  { return b.is(hclog.Info) }
func (b *hclogBridge) IsWarn() bool  { return b.is(hclog.Warn) }
func (b *hclogBridge) IsError() bool { return b.is(hclog.Error) }

func (b *hclogBridge) ImpliedArgs() []any { return b.implied }
func (b *hclogBridge) Name() string       { return b.name }

func (b *hclogBridge) With(args ...any) hclog.Logger {
	return &hclogBridge{logger: b.logger.With(args...), name: b.name, implied: append(b.implied[:len(b.implied):len(b.implied)], args...)}
}

// Named keeps the component of the outermost name: slog has no hierarchy of loggers.
func (b *hclogBridge) Named(name string) hclog.Logger {
	return &hclogBridge{logger: b.logger, name: b.name + "." + name, implied: b.implied}
}

func (b *hclogBridge) ResetNamed(name string) hclog.Logger {
	return &hclogBridge{logger: b.logger, name: name, implied: b.implied}
}

// SetLevel does nothing: slog's handler decides.
func (b *hclogBridge) SetLevel(hclog.Level) {}

func (b *hclogBridge) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if b.is(level) {
			return level
		}
	}
	return hclog.Error
}

func (b *hclogBridge) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(b.StandardWriter(nil), "", 0)
}

func (b *hclogBridge) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return &lineWriter{logger: b.logger}
}

// lineWriter reads the lines of a standard logger, such as memberlist's "[WARN] memberlist: …".
type lineWriter struct{ logger *slog.Logger }

var linePrefixes = [...]struct {
	prefix string
	level  slog.Level
}{
	{"[TRACE] ", slog.LevelDebug - 4},
	{"[DEBUG] ", slog.LevelDebug},
	{"[INFO] ", slog.LevelInfo},
	{"[WARN] ", slog.LevelWarn},
	{"[ERR] ", slog.LevelError},
	{"[ERROR] ", slog.LevelError},
}

func (w *lineWriter) Write(line []byte) (int, error) {
	text, level := string(bytes.TrimRight(line, "\n")), slog.LevelInfo
	for _, p := range linePrefixes {
		if rest, ok := strings.CutPrefix(text, p.prefix); ok {
			text, level = rest, p.level
			break
		}
	}
	w.logger.Log(context.Background(), level, strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}
