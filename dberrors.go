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
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// statementTimeout ends a statement on the server, well before the caller's own deadline.
const statementTimeout = handlerBudget / 2

// databaseError is an error of the database.
type databaseError struct {
	// The class that telemetry reports: one of the constants below, or an SQLSTATE.
	class string
	err   error
	// What the caller sees: errUnavailable, errDiskFull, context.Canceled or nil. If isReadOnly accepts err, that comes
	// first.
	kind error
}

// The classes of errors without an SQLSTATE.
const (
	classCanceled   = "canceled"
	classTimeout    = "timeout" // after the deadline of the operation
	classConnection = "connection"
	classOther      = "_OTHER"
)

// unavailable returns an error that says that the database cannot answer now.
func unavailable(class string, err error) *databaseError {
	return &databaseError{
		class: class,
		err:   err,
		kind:  errUnavailable,
	}
}

func (e *databaseError) Error() string {
	return "database: " + e.class + ": " + e.err.Error()
}

func (e *databaseError) Unwrap() []error {
	return []error{e.err, e.kind}
}

func (e *databaseError) errorType() string {
	return e.class
}

// classify returns the error of a transaction that began at began as a databaseError, and tells the
// breaker what it says about the database. It does not wrap an error that isAnswer accepts.
func (p *postgres) classify(ctx context.Context, name queryName, began time.Time, err error) error {
	if !name.reads() && !isRefusedLogin(err) {
		err = readOnlyError(err)
	}
	if isReadOnly(err) {
		return p.refusedWrite(err)
	}
	if isAnswer(err) {
		p.breaker.answered()
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		// The caller has gone. That says nothing about the database.
		return &databaseError{
			class: classCanceled,
			err:   err,
			kind:  context.Canceled,
		}
	}
	return p.classifyFailure(ctx, name, began, err)
}

// classifyFailure classifies an error that is neither an answer to the caller nor caused by it.
func (p *postgres) classifyFailure(ctx context.Context, name queryName, began time.Time, err error) error {
	state := pq.As(err)
	if state != nil {
		code := string(state.Code)
		spanAttrs(ctx, slog.String("db.response.status_code", code))
	}
	switch {
	case ctx.Err() != nil:
		// Before the other cases: a statement that reaches its deadline fails in many ways.
		return p.timedOut(began, classTimeout, err)
	case state != nil && isRefusedLogin(err):
		failure := unavailable(string(state.Code), loginError{state})
		p.breaker.refused(failure)
		return failure
	case state != nil:
		return p.refusedStatement(name, state)
	case isTimeout(err): // see deadlineConn
		return p.timedOut(began, classConnection, err)
	case isConnectionError(err):
		failure := unavailable(classConnection, err)
		p.breaker.refused(failure)
		return failure
	}
	p.breaker.answered()
	return &databaseError{
		class: classOther,
		err:   err,
	}
}

// loginConnector is a connector that marks its errors, because an SQLSTATE does not say what was refused. "disk full" of a
// statement says that writes fail, and of a login that nobody can be served.
type loginConnector struct{ driver.Connector }

type loginError struct{ error }

func (e loginError) Unwrap() error { return e.error }

// Connect logs in.
func (c loginConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, loginError{err}
	}
	return conn, nil
}

func isRefusedLogin(err error) bool {
	_, isRefused := errors.AsType[loginError](err)
	return isRefused
}

// timedOut returns the error of a transaction that got no answer in time, and tells the breaker.
func (p *postgres) timedOut(began time.Time, class string, err error) error {
	failure := unavailable(class, err)
	p.breaker.timedOut(began, statementTimeout, failure)
	return failure
}

// refusedStatement returns the error for an SQLSTATE of the server. Only some of them mean that the
// database cannot be used. The others are answers of a database that works, though the statement failed.
func (p *postgres) refusedStatement(name queryName, state *pq.Error) error {
	code := state.Code
	failure := &databaseError{
		class: string(code),
		err:   state,
	}
	isAway := slices.Contains(awayClasses, code.Class()) ||
		strings.HasPrefix(string(code), shutdownPrefix)
	mayStillRead := slices.Contains(writersClasses, code.Class()) &&
		code != pqerror.TooManyConnections

	switch {
	case code == pqerror.DiskFull:
		failure.kind = errDiskFull
	case mayStillRead && !name.reads():
		// The breaker is not told, because it would also stop those who read.
		failure.kind = errUnavailable
		return failure
	case isAway:
		failure.kind = errUnavailable
		p.breaker.refused(failure)
		return failure
	case slices.Contains(retryCodes, code):
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

// The errors of a write to a database that only reads. Each wraps the error of the server.
var (
	errStandby = userError{
		http.StatusServiceUnavailable,
		"the database is a read-only standby: " +
			"wait until it is promoted, " +
			"or name the primary in DATABASE_URL",
	}
	errReadOnlyDefault = userError{
		http.StatusServiceUnavailable,
		"the database is read-only: " +
			"its default_transaction_read_only is on",
	}
	errNoRightToWrite = userError{
		http.StatusConflict,
		"the role of DATABASE_URL may only read: " +
			"GRANT it INSERT, UPDATE and DELETE on the tables",
	}
)

// isReadOnly reports whether a write met a database that only reads.
func isReadOnly(err error) bool {
	return errors.Is(err, errStandby) ||
		errors.Is(err, errReadOnlyDefault) ||
		errors.Is(err, errNoRightToWrite)
}

// standbyError returns the error of beginning a transaction, with errStandby if it says that the server only reads.
func standbyError(err error) error {
	state := pq.As(err,
		pqerror.FeatureNotSupported,
		pqerror.ReadOnlySQLTransaction)
	if state == nil {
		return err
	}
	return fmt.Errorf("%w: %w", errStandby, err)
}

// readOnlyError returns the error of a write, with what it says about the database if that only reads.
func readOnlyError(err error) error {
	switch {
	case errors.Is(err, errStandby):
		return err
	case pq.As(err, pqerror.ReadOnlySQLTransaction) != nil:
		return fmt.Errorf("%w: %w", errReadOnlyDefault, err)
	case pq.As(err, pqerror.InsufficientPrivilege) != nil:
		return fmt.Errorf("%w: %w", errNoRightToWrite, err)
	}
	return err
}

// refusedWrite returns the error for one that isReadOnly accepts.
func (p *postgres) refusedWrite(err error) error {
	p.breaker.answered()
	if errors.Is(err, errReadOnlyDefault) {
		p.conns.renew()
	}
	failure := &databaseError{
		class: string(pq.As(err).Code),
		err:   err,
	}
	if !errors.Is(err, errNoRightToWrite) { // which does not end by itself
		failure.kind = errUnavailable
	}
	return failure
}

// shutdownPrefix begins the SQLSTATEs of a server that starts, stops or has crashed. Others of class 57
// are about one statement, such as its timeout.
const shutdownPrefix = "57P"

// retryCodes are the SQLSTATEs of one statement that may succeed later, though others succeed now.
var retryCodes = []pqerror.Code{
	// After statement_timeout.
	pqerror.QueryCanceled,
	pqerror.LockNotAvailable,
	pqerror.TRSerializationFailure,
	pqerror.TRDeadlockDetected,
	// From a standby: the primary has moved.
	pqerror.ReadOnlySQLTransaction,
}

// isAnswer reports whether err is a normal result of a working database, such as no rows.
func isAnswer(err error) bool {
	_, isUserError := errors.AsType[userError](err)
	return isUserError ||
		errors.Is(err, sql.ErrNoRows) ||
		errors.Is(err, errElsewhere)
}

// reads reports whether the query only reads.
func (q queryName) reads() bool {
	operation := queryAttrs[q][0]
	return operation.Value.String() == "SELECT"
}

// isRefusal reports whether a working database refused the values of a statement. Trying again cannot help.
func isRefusal(err error) bool {
	state := pq.As(err)
	if state == nil {
		return false
	}
	return slices.Contains(refusalClasses, state.Code.Class())
}

// refusalClasses are the classes of SQLSTATE that are about the values of a statement.
var refusalClasses = []pqerror.Class{
	pqerror.ClassDataException,
	pqerror.ClassIntegrityConstraintViolation,
	pqerror.ClassProgramLimitExceeded,
}

// isConnectionError reports whether a connection could not be made, or broke.
func isConnectionError(err error) bool {
	_, isNetwork := errors.AsType[net.Error](err)
	return isNetwork ||
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}
