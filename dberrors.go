package main

// The errors of the PostgreSQL store: their classes, and what each says about the database.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// statementTimeout ends a statement on the server, well before the caller's own deadline.
const statementTimeout = handlerBudget / 2

// databaseError is an error of the database with the class that telemetry reports.
type databaseError struct {
	class string // canceled, timeout, connection, an SQLSTATE, or _OTHER
	err   error
	kind  error // for the caller: errUnavailable, errDiskFull, context.Canceled or nil
}

// classTimeout is the class of an error after the deadline of the operation.
const classTimeout = "timeout"

func (e *databaseError) Error() string {
	return "database: " + e.class + ": " + e.err.Error()
}

func (e *databaseError) Unwrap() []error   { return []error{e.err, e.kind} }
func (e *databaseError) errorType() string { return e.class }

// classify returns the error of a transaction that began at began as a databaseError, and tells the
// breaker what it says about the database. It does not wrap an error that isAnswer accepts.
func (p *postgres) classify(ctx context.Context, name queryName, began time.Time, err error) error {
	if isAnswer(err) {
		p.breaker.answered()
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		// The caller has gone. That says nothing about the database.
		return &databaseError{class: "canceled", err: err, kind: context.Canceled}
	}

	state := pq.As(err)
	if state != nil {
		spanAttrs(ctx, slog.String("db.response.status_code", string(state.Code)))
	}
	switch {
	case errors.Is(err, errStandby):
		p.breaker.answered()
		return &databaseError{class: string(state.Code), err: err, kind: errUnavailable}
	case ctx.Err() != nil: // checked first: a statement that reaches its deadline fails in many ways
		return p.timedOut(began, &databaseError{class: classTimeout, err: err, kind: errUnavailable})
	case state != nil:
		return p.refusedStatement(name, state)
	case isTimeout(err): // see deadlineConn
		return p.timedOut(began, &databaseError{class: "connection", err: err, kind: errUnavailable})
	case isConnectionError(err):
		failure := &databaseError{class: "connection", err: err, kind: errUnavailable}
		p.breaker.refused(failure)
		return failure
	}
	p.breaker.answered()
	return &databaseError{class: "_OTHER", err: err}
}

func (p *postgres) timedOut(began time.Time, failure *databaseError) error {
	p.breaker.timedOut(began, statementTimeout, failure)
	return failure
}

// refusedStatement returns the error for an SQLSTATE of the server. Only some of them mean that the
// database cannot be used. The others are answers of a database that works, though the statement failed.
func (p *postgres) refusedStatement(name queryName, state *pq.Error) error {
	failure := &databaseError{class: string(state.Code), err: state}
	isOfWriters := slices.Contains(writersClasses, state.Code.Class()) && state.Code != pqerror.TooManyConnections
	switch {
	case state.Code == pqerror.DiskFull:
		failure.kind = errDiskFull
	case !name.reads() && isOfWriters:
		failure.kind = errUnavailable
		return failure // says nothing about reading
	case slices.Contains(awayClasses, state.Code.Class()),
		strings.HasPrefix(string(state.Code), shutdownPrefix):
		failure.kind = errUnavailable
		p.breaker.refused(failure)
		return failure
	case slices.Contains(retryCodes, state.Code):
		failure.kind = errUnavailable
	}
	p.breaker.answered()
	return failure
}

// awayClasses are the classes of SQLSTATE that say that the database cannot be used, by any statement.
var awayClasses = []pqerror.Class{
	pqerror.ClassConnectionException,
	pqerror.ClassInvalidAuthorizationSpecification,
	pqerror.ClassInvalidCatalogName,
	pqerror.ClassInsufficientResources,
	pqerror.ClassSystemError,
}

// writersClasses are those of awayClasses that a write may meet while reading works.
var writersClasses = []pqerror.Class{
	pqerror.ClassInsufficientResources,
	pqerror.ClassSystemError,
}

// errStandby says that a write was begun on a server that only reads.
var errStandby = errors.New("the database is a standby, which only reads: " +
	"wait until it is promoted, or name the primary in DATABASE_URL")

// standbyError returns err, with errStandby if it says that the server only reads.
func standbyError(err error) error {
	if pq.As(err, pqerror.FeatureNotSupported, pqerror.ReadOnlySQLTransaction) != nil {
		return fmt.Errorf("%w: %w", errStandby, err)
	}
	return err
}

// shutdownPrefix begins the SQLSTATEs of a server that starts, stops or has crashed. Others of class 57
// are about one statement, such as its timeout.
const shutdownPrefix = "57P"

// retryCodes are the SQLSTATEs of one statement that may succeed later, though others succeed now.
var retryCodes = []pqerror.Code{
	pqerror.QueryCanceled, // statement_timeout
	pqerror.LockNotAvailable,
	pqerror.TRSerializationFailure,
	pqerror.TRDeadlockDetected,
	pqerror.ReadOnlySQLTransaction, // a standby: the primary has moved
}

// isAnswer reports whether err is a normal result of a working database, such as no rows.
func isAnswer(err error) bool {
	_, isUserError := errors.AsType[userError](err)
	return isUserError ||
		errors.Is(err, sql.ErrNoRows) ||
		errors.Is(err, errElsewhere)
}

// reads reports whether the query only reads.
func (q queryName) reads() bool { return queryAttrs[q][0].Value.String() == "SELECT" }

// isRefusal reports whether the database works and takes what it was given neither now nor later.
func isRefusal(err error) bool {
	state := pq.As(err)
	return state != nil && slices.Contains(refusalClasses, state.Code.Class())
}

// refusalClasses are the classes of SQLSTATE that are about the values of a statement.
var refusalClasses = []pqerror.Class{
	pqerror.ClassDataException,
	pqerror.ClassIntegrityConstraintViolation,
	pqerror.ClassProgramLimitExceeded,
}

func isConnectionError(err error) bool {
	_, isNetwork := errors.AsType[net.Error](err)
	return isNetwork ||
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}
