package natsd

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// logger hands the server's messages to slog and keeps the first fatal one,
// which the server expects to end the process.
type logger struct {
	log   *slog.Logger
	fatal atomic.Pointer[string]
}

var _ server.Logger = (*logger)(nil)

// Noticef is for what the server says of its normal doings; it says a lot.
func (l *logger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf is the server's warning.
func (l *logger) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf is the server's error; a stranger with a wrong password is one too.
func (l *logger) Errorf(format string, v ...any) { l.write(slog.LevelError, format, v) }

// Fatalf keeps the message for Start.
func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &text)
	l.log.Error(text)
}

// Debugf is never called: debugging is off.
func (l *logger) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef is never called: tracing, which would show payloads, is off.
func (l *logger) Tracef(string, ...any) {}

func (l *logger) write(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, v...))
	}
}
