package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/rest"
)

// listenerTLS is the TLS of the https listeners of one setting; without any, of calls to those of other workers.
type listenerTLS struct {
	prefix string
	server *clientconfig.ServerTLS // nil without an https listener
}

// openListeners opens the listeners of a setting: listeners or admin.listeners.
func openListeners(key string, listeners []config.Listener, file config.Worker, log *slog.Logger) (opened []net.Listener, secure *listenerTLS, err error) {
	secure = &listenerTLS{prefix: key + ".https."}
	defer func() {
		if err != nil {
			closeAll(opened)
			opened = nil
		}
	}()
	for _, l := range listeners {
		if l.Scheme == "https" && secure.server == nil {
			if err := secure.read(file, log); err != nil {
				return opened, nil, err
			}
		}
		listener, err := net.Listen("tcp", l.Address())
		if err != nil {
			return opened, nil, fmt.Errorf("%s: %w", key, err)
		}
		if l.Scheme == "https" {
			listener = tls.NewListener(listener, secure.server.Server())
		}
		opened = append(opened, listener)
	}
	return opened, secure, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// settings are the keys behind the prefix, or, if there are none, the worker's own ssl.*, as Kafka does
// (AbstractConfig.valuesWithPrefixAllOrNothing). prefix is what the keys have been cut.
func (l *listenerTLS) settings(file config.Worker) (settings config.Settings, prefix string) {
	if settings := file.Settings.Sub(l.prefix); len(settings) > 0 {
		return settings, l.prefix
	}
	return file.Settings, ""
}

// soon is how long before its end a certificate is warned about at the start.
const soon = 7 * 24 * time.Hour

// read reads the stores and tells what is odd about the settings.
func (l *listenerTLS) read(file config.Worker, log *slog.Logger) error {
	settings, prefix := l.settings(file)
	server, err := clientconfig.NewServerTLS(settings, prefix, log.With(logAttr, "rest"))
	if err != nil {
		return err
	}
	l.server = server
	report := server.Report()
	for _, k := range report.Unknown {
		log.Warn("unknown setting", "key", k.Key, "hint", fmt.Sprintf("is ignored; the nearest that there is: %q", k.Nearest))
	}
	for _, p := range report.Adapted {
		log.Info("setting noted", "key", prefix+p.Key, "reason", p.Message)
	}
	if end := server.NotAfter(); time.Until(end) < soon {
		log.Warn("the certificate of the https listeners ends soon", "listeners", l.prefix, "not_after", end)
	}
	return nil
}

// peer is how the https listeners of other workers are called: with the stores of the own, as Connect's RestClient. Without
// listeners of its own they are read when they are needed, so that settings that nothing uses stop nothing (KAFKA-14816).
func (l *listenerTLS) peer(file config.Worker) rest.Handshake {
	if l.server != nil {
		return l.server.Handshake
	}
	read := sync.OnceValues(func() (rest.Handshake, error) { return clientconfig.PeerTLS(l.settings(file)) })
	return func(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
		handshake, err := read()
		if err != nil {
			conn.Close()
			return nil, err
		}
		return handshake(ctx, conn, host)
	}
}
