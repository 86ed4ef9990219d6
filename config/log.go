package config

import "log/slog"

// Level is the least severe level that is logged: debug, info, warn or error.
type Level string

// Slog is the level as [log/slog] has it; info for an unknown one, which Validate reports.
func (l Level) Slog() slog.Level {
	switch l {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}
