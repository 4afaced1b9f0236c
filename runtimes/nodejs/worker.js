'use strict'
// The Node worker: runs one function for the server, over the socket that it inherits
// as file descriptor 3 (docs/worker-protocol.md).
//
// It owns the frames' Node side and the `req` and `res` that a function gets, which
// behave as users of Express expect. It knows nothing of HTTP on the wire, routes,
// other handlers, or who started it. One file, no packages; what few functions need is
// required where it is needed, because each module lengthens every start.

const { AsyncLocalStorage } = require('node:async_hooks')
const { EventEmitter } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { types } = require('node:util')

const LOAD = 1, CALL = 2, BODY = 3, CANCEL = 4, CREDIT = 5, PING = 6
const READY = 65, FAILED = 66, REPLY = 67, ERROR = 68, ENDED = 69, PONG = 70, LEAVING = 71
const END = 1, FAILURE = 2

const SOCKET = 3
const PAYLOAD_BYTES_MAX = 2 << 20
const HEAD_BYTES_MAX = 512 << 10
// Of a body this much may be sent unasked, in each direction.
const WINDOW_BYTES = 256 << 10
// Credit is granted in steps of this, and a body is cut into frames of this.
const STEP_BYTES = 64 << 10
const PIECE_BYTES = 128 << 10
// What a caller is told of an error is cut here; the log has it whole.
const FAILURE_CHARS_MAX = 16 << 10
// How long looking for the line of a syntax error may take.
const PLACE_MS = 5000
// A finished reply does not wait longer than this for the calls behind it.
const HOLD_MS = 0.2

const EMPTY = Buffer.alloc(0)
// Which call the running code belongs to, however late it runs.
const current = new AsyncLocalStorage()

let wire
let handler = null
let loading = false
// Calls in flight by number.
const calls = new Map()

function main () {
  try {
    wire = new Wire()
  } catch (error) {
    leave(70, `file descriptor 3 is no socket: this program is started by the tinyFaaS server (${error.message})`)
  }
  // What is printed must not pile up here while the loop is busy, nor go with the process.
  for (const log of [process.stdout, process.stderr]) log._handle?.setBlocking?.(true)
  process.on('uncaughtException', onUncaught)
  process.on('unhandledRejection', onUnhandled)
  // A function that ends the process takes no finished reply of others with it.
  process.on('exit', () => wire.flush())
}

function leave (code, why) {
  try {
    fs.writeSync(2, `tinyfaas worker: ${why}\n`)
  } catch {
    // There is no log any more; the exit code tells.
  }
  process.exit(code)
}

// --- frames ---------------------------------------------------------------------

// The socket: whole frames in, whole frames out, those of one turn in one write.
class Wire {
  constructor () {
    this.parts = [] // What has come of a frame that is not whole yet,
    this.held = 0 // its length so far,
    this.missing = 12 // and the length at which it is worth looking again.
    this.waiting = []
    this.bytes = 0
    this.since = 0
    this.taking = false // take() flushes at its end
    this.scheduled = false
    this.flushNow = () => { this.scheduled = false; this.flush() }
    this.socket = new net.Socket({ fd: SOCKET, readable: true, writable: true })
    this.socket.on('data', (data) => this.take(data))
    // The server is gone.
    this.socket.on('end', () => process.exit(0))
    this.socket.on('error', (error) => {
      if (error.code === 'EPIPE' || error.code === 'ECONNRESET') process.exit(0)
      leave(70, `the socket to the server broke: ${error.message}`)
    })
    this.socket.on('close', () => process.exit(0))
  }

  take (data) {
    if (this.held > 0) {
      this.parts.push(data)
      this.held += data.length
      if (this.held < this.missing) return
      data = Buffer.concat(this.parts, this.held)
      this.parts.length = 0
      this.held = 0
    }
    this.since = performance.now()
    this.taking = true
    let at = 0
    this.missing = 12
    while (data.length - at >= 12) {
      const length = data.readUInt32LE(at)
      if (length > PAYLOAD_BYTES_MAX) leave(70, `a frame of ${length} bytes, over the limit`)
      const start = at + 12
      const stop = start + length
      if (stop > data.length) {
        this.missing = 12 + length
        break
      }
      at = stop
      onFrame(data[start - 8], data[start - 7], data.readUInt32LE(start - 4), data, start, stop)
      if (this.waiting.length > 0 && performance.now() - this.since > HOLD_MS) this.flush()
    }
    if (at < data.length) {
      this.parts.push(at > 0 ? data.subarray(at) : data)
      this.held = data.length - at
    }
    this.taking = false
    if (this.waiting.length > 0) this.flush()
  }

  send (kind, flags, number, payload) {
    const frame = Buffer.allocUnsafe(12 + payload.length)
    frameHead(frame, kind, flags, number)
    payload.copy(frame, 12)
    this.push(frame)
  }

  push (frame) {
    this.waiting.push(frame)
    this.bytes += frame.length
    if (!this.scheduled && !this.taking) {
      // Replies of code that runs later in this turn go together.
      this.scheduled = true
      setImmediate(this.flushNow)
    }
  }

  flush (done) {
    const frames = this.waiting
    this.since = performance.now()
    if (frames.length === 0) {
      if (done) done()
      return
    }
    this.waiting = []
    if (frames.length === 1) {
      this.socket.write(frames[0], done)
    } else if (this.bytes <= STEP_BYTES) {
      this.socket.write(Buffer.concat(frames, this.bytes), done)
    } else {
      this.socket.cork()
      const last = frames.pop()
      for (const frame of frames) this.socket.write(frame)
      this.socket.write(last, done)
      this.socket.uncork()
    }
    this.bytes = 0
    Response.settle()
  }
}

function frameHead (frame, kind, flags, number) {
  frame.writeUInt32LE(frame.length - 12, 0)
  frame[4] = kind
  frame[5] = flags
  frame[6] = frame[7] = 0
  frame.writeUInt32LE(number, 8)
}

function onFrame (kind, flags, number, data, start, stop) {
  if (handler === null && kind !== PING) {
    if (kind !== LOAD || loading) leave(70, 'the first frame was not LOAD, or another came before READY')
    load(data.toString('utf8', start, stop))
    return
  }
  const call = calls.get(number)
  switch (kind) {
    case CALL:
      if (call !== undefined) leave(70, `call ${number} began twice`)
      onCall(number, flags, data, start, stop)
      break
    case BODY:
      // An unknown call has ended on this side; what still arrives for it is ignored.
      if (call !== undefined) call.onBody(flags, data.subarray(start, stop))
      break
    case CANCEL:
      if (call !== undefined) call.onCancel()
      break
    case CREDIT:
      if (stop - start !== 4) leave(70, `a CREDIT of ${stop - start} bytes`)
      if (call !== undefined) call.onCredit(data.readUInt32LE(start))
      break
    case PING:
      wire.send(PONG, 0, number, EMPTY)
      break
    default:
      leave(70, `a frame of kind ${kind}, which no worker gets`)
  }
}

function onCall (number, flags, data, start, stop) {
  const size = stop - start >= 4 ? data.readUInt32LE(start) : HEAD_BYTES_MAX + 1
  const middle = start + 4 + size
  if (size > HEAD_BYTES_MAX || middle > stop) leave(70, `the head of call ${number} does not parse`)
  const fields = data.latin1Slice(start + 4, middle).split('\n')
  if (fields.length < 5 || fields.length % 2 === 0) leave(70, `the head of call ${number} does not parse`)
  const call = new Call(number, fields)
  calls.set(number, call)
  call.onBody(flags, data.subarray(middle, stop))
}

// --- calls ------------------------------------------------------------------------

// One call: what has come of it, and whether it has ended.
class Call {
  constructor (number, fields) {
    this.number = number
    this.fields = fields
    this.body = null
    this.parts = null
    this.owed = 0
    this.credit = WINDOW_BYTES
    this.req = null
    this.res = null
    this.begun = false // REPLY is on its way
    this.ended = false // the last frame is on its way
    this.cancelled = false
    this.running = null // what the handler promised, until that settles
  }

  onBody (flags, part) {
    if (this.body !== null) leave(70, `call ${this.number} got a body after its end`)
    if (flags & END) {
      if (this.parts !== null) {
        this.parts.push(part)
        part = Buffer.concat(this.parts)
        this.parts = null
      }
      this.body = part
      this.run()
      return
    }
    if (this.parts === null) this.parts = []
    this.parts.push(part)
    // The whole body goes to the function at once, and the server bounds it.
    this.owed += part.length
    if (this.owed >= STEP_BYTES) {
      wire.send(CREDIT, 0, this.number, u32(this.owed))
      this.owed = 0
    }
  }

  run () {
    this.req = new Request(this)
    this.res = new Response(this)
    current.run(this, invoke, this)
  }

  onCredit (count) {
    this.credit += count
    if (this.res !== null) this.res.pour()
  }

  onCancel () {
    if (this.cancelled) return
    this.cancelled = true
    if (this.body === null) {
      this.end(ENDED, 0, EMPTY)
      return
    }
    const { req, res } = this
    const looks = req.listenerCount('aborted') + req.listenerCount('close') + res.listenerCount('close') > 0
    req.aborted = req.destroyed = true
    current.run(this, () => process.nextTick(() => {
      req.emit('aborted')
      req.emit('close')
    }))
    res.leave()
    // A function that promised its end is waited for, and so is one that neither
    // looks whether its caller is there nor has begun to reply.
    if (this.running === null && (looks || this.begun)) {
      setImmediate(() => { if (this.running === null) this.end(ENDED, 0, EMPTY) })
    }
  }

  // The last frame of the call.
  end (kind, flags, payload) {
    if (this.ended) return
    this.ended = true
    calls.delete(this.number)
    wire.send(kind, flags, this.number, payload)
  }

  // The function broke: the caller learns it, by a failure or by a reply broken off.
  fail (words) {
    if (this.ended) return
    const text = Buffer.from(words.slice(0, FAILURE_CHARS_MAX))
    if (this.cancelled) {
      this.end(ENDED, 0, EMPTY)
    } else if (this.begun) {
      this.end(ERROR, 0, text)
    } else {
      this.begun = true
      this.end(REPLY, END | FAILURE, Buffer.concat([u32(3), Buffer.from('500'), text]))
    }
    this.res.fail()
  }
}

function u32 (number) {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32LE(number)
  return bytes
}

function invoke (call) {
  try {
    const promise = handler(call.req, call.res)
    if (promise === undefined || promise === null || typeof promise.then !== 'function') return
    call.running = promise
    promise.then(() => settled(call), (error) => {
      broke(call, error)
      settled(call)
    })
  } catch (error) {
    broke(call, error)
  }
}

function settled (call) {
  call.running = null
  if (call.cancelled) call.end(ENDED, 0, EMPTY)
}

function broke (call, error) {
  log(error)
  call.fail(words(error))
}

// --- errors -----------------------------------------------------------------------
// An error is an object of the function, and may throw when it is looked at.

function log (error, before = '') {
  try {
    console.error(before + account(error))
  } catch {
    // The function has replaced the console, or the log is gone; the caller is told.
  }
}

function words (error) {
  try {
    if (error instanceof Error) return error.message ? `${error.name}: ${error.message}` : `${error.name}`
    return `the function threw ${describe(error)}`
  } catch {
    return 'the function threw something that cannot be shown'
  }
}

function line (error) {
  return words(error).split('\n', 1)[0].slice(0, 200)
}

function describe (value) {
  if (typeof value === 'string') return value
  return require('node:util').inspect(value, { depth: 1 })
}

// An error's stack without the frames of this file and of Node itself.
function account (error) {
  if (!(error instanceof Error)) return `the function threw ${describe(error)}`
  const lines = String(error.stack || error).split('\n').filter((line) =>
    !/^\s+at /.test(line) || !(line.includes(__filename) || line.includes('(node:') || line.includes('at node:')))
  if (Object.keys(error).length > 0) lines.push(describe({ ...error }))
  if (error.cause !== undefined) lines.push(`caused by ${describe(error.cause)}`)
  return lines.join('\n')
}

// A throw outside of every handler: Node's state is in doubt, so the process goes, and
// the server starts another. It costs the call that it belongs to; all of them, if that
// cannot be told.
function onUncaught (error) {
  log(error)
  const call = current.getStore()
  if (error instanceof AlreadySent) {
    // Ours, and thrown before anything changed.
    return
  }
  // First of all: whoever is told, and calls again, must not come here.
  if (handler !== null) wire.send(LEAVING, 0, 0, Buffer.from('ended by an error that nothing caught: ' + line(error)))
  if (call !== undefined) {
    call.fail(words(error))
  } else {
    const text = 'the function threw outside of any call and its process is being replaced; try again: '
    for (const other of [...calls.values()]) if (other.res !== null) other.fail(text + words(error))
  }
  wire.socket.pause()
  wire.flush(() => process.exit(1))
  setTimeout(() => process.exit(1), 1000)
}

function onUnhandled (error) {
  log(error, 'a promise was rejected and nothing handled it: ')
  const call = current.getStore()
  if (call !== undefined && !(error instanceof AlreadySent)) call.fail(words(error))
}

class AlreadySent extends Error {
  constructor (what) {
    super(`Cannot ${what} after they are sent to the client`)
    this.name = 'Error'
    this.code = 'ERR_HTTP_HEADERS_SENT'
  }
}

// --- the request ------------------------------------------------------------------

// Read when asked for: most functions look at little of it.
class Request extends EventEmitter {
  #call
  #body
  #headers
  #query

  constructor (call) {
    super()
    this.#call = call
    this.method = call.fields[1]
    this.params = {}
    this.aborted = false
    this.destroyed = false
    this.complete = true
  }

  get res () { return this.#call.res }
  get path () { return this.#call.fields[2] }
  get rawBody () { return this.#call.body }

  get body () {
    if (this.#body === undefined) this.#body = this.#call.body.toString()
    return this.#body
  }

  // Functions replace it by what they parse from it.
  set body (value) { this.#body = value }

  get originalUrl () {
    const query = this.#call.fields[3]
    return query === '' ? this.path : `${this.path}?${query}`
  }

  get url () { return this.originalUrl }
  get baseUrl () { return '' }

  get query () {
    if (this.#query === undefined) this.#query = require('node:querystring').parse(this.#call.fields[3])
    return this.#query
  }

  set query (value) { this.#query = value }

  get headers () {
    if (this.#headers === undefined) this.#headers = headersOf(this.#call.fields)
    return this.#headers
  }

  get rawHeaders () { return this.#call.fields.slice(5) }

  get (name) {
    if (typeof name !== 'string') throw new TypeError('req.get takes the name of a header')
    const lower = name.toLowerCase()
    if (lower === 'referer' || lower === 'referrer') return this.headers.referrer || this.headers.referer
    return this.headers[lower]
  }

  header (name) { return this.get(name) }
}

// Headers that Node keeps once: of a repeated one the first counts.
const SINGLE = new Set(['age', 'authorization', 'content-length', 'content-type', 'etag', 'expires', 'from',
  'host', 'if-modified-since', 'if-unmodified-since', 'last-modified', 'location', 'max-forwards',
  'proxy-authorization', 'referer', 'retry-after', 'server', 'user-agent'])

function headersOf (fields) {
  const headers = {}
  for (let i = 5; i < fields.length; i += 2) {
    const name = fields[i]
    const value = fields[i + 1]
    if (name === 'set-cookie') (headers[name] ??= []).push(value)
    else if (name === '__proto__') Object.defineProperty(headers, name, { value, enumerable: true })
    else if (!Object.hasOwn(headers, name)) headers[name] = value
    else if (!SINGLE.has(name)) headers[name] += (name === 'cookie' ? '; ' : ', ') + value
  }
  return headers
}

// --- the response -----------------------------------------------------------------

const TYPES = {
  html: 'text/html', htm: 'text/html', txt: 'text/plain', text: 'text/plain', css: 'text/css', csv: 'text/csv',
  js: 'text/javascript', mjs: 'text/javascript', json: 'application/json', xml: 'application/xml',
  svg: 'image/svg+xml', png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif',
  webp: 'image/webp', ico: 'image/x-icon', pdf: 'application/pdf', zip: 'application/zip', gz: 'application/gzip',
  bin: 'application/octet-stream', wasm: 'application/wasm', mp3: 'audio/mpeg', mp4: 'video/mp4',
  form: 'application/x-www-form-urlencoded', urlencoded: 'application/x-www-form-urlencoded'
}

// What a function answers with. It behaves as a writable stream does, but is none: the
// machinery of one would cost every call more than all else here.
class Response extends EventEmitter {
  #call
  #statusIsSet = false // by status(); else what statusCode says, if not 200
  #headers = null // by lower-case name: [name as given, value, or an array of values]
  #queue = null // bodies past the credit: [bytes, callback]
  #wantsDrain = false
  #callback = null

  // Responses whose last frame goes out with the next write.
  static finished = []

  static settle () {
    if (Response.finished.length === 0) return
    const finished = Response.finished
    Response.finished = []
    for (const res of finished) res.#finish()
  }

  constructor (call) {
    super()
    this.#call = call
    this.statusCode = 200
    this.statusMessage = ''
    this.writableEnded = false
    this.writableFinished = false
    this.destroyed = false
  }

  get req () { return this.#call.req }
  get headersSent () { return this.#call.begun }
  get finished () { return this.writableEnded }
  get writable () { return !this.writableEnded && !this.destroyed }
  get writableNeedDrain () { return this.#wantsDrain }
  get writableLength () { return (this.#queue || []).reduce((sum, [bytes]) => sum + bytes.length, 0) }
  get writableHighWaterMark () { return WINDOW_BYTES }
  get writableObjectMode () { return false }
  get closed () { return this.writableFinished || this.destroyed }

  get locals () {
    Object.defineProperty(this, 'locals', { value: {}, writable: true })
    return this.locals
  }

  // --- status and headers ---

  status (code) {
    checkStatus(code)
    this.statusCode = code
    this.#statusIsSet = true
    return this
  }

  sendStatus (code) {
    return this.status(code).type('txt').send(require('node:http').STATUS_CODES[code] || String(code))
  }

  setHeader (name, value) {
    if (this.#call.begun && !this.#call.cancelled) throw new AlreadySent('set headers')
    checkHeader(name, value)
    this.#headers ??= new Map()
    this.#headers.set(name.toLowerCase(), [name, Array.isArray(value) ? value.map(String) : String(value)])
    return this
  }

  set (name, value) {
    if (typeof name === 'object' && name !== null) {
      for (const key of Object.keys(name)) this.set(key, name[key])
      return this
    }
    if (typeof name === 'string' && name.toLowerCase() === 'content-type') {
      if (Array.isArray(value)) throw new TypeError('Content-Type cannot be set to an Array')
      value = withCharset(String(value))
    }
    return this.setHeader(name, value)
  }

  header (name, value) { return this.set(name, value) }

  append (name, value) {
    const before = this.get(name)
    return this.set(name, before === undefined ? value : [].concat(before, value))
  }

  getHeader (name) { return this.#headers?.get(String(name).toLowerCase())?.[1] }
  get (name) { return this.getHeader(name) }
  hasHeader (name) { return this.getHeader(name) !== undefined }
  getHeaderNames () { return [...(this.#headers?.keys() ?? [])] }

  getHeaders () {
    return Object.fromEntries([...(this.#headers ?? [])].map(([name, [, value]]) => [name, value]))
  }

  removeHeader (name) {
    if (this.#call.begun && !this.#call.cancelled) throw new AlreadySent('remove headers')
    this.#headers?.delete(String(name).toLowerCase())
    return this
  }

  type (kind) {
    const known = kind.includes('/') ? kind : TYPES[kind.slice(kind.lastIndexOf('.') + 1).toLowerCase()]
    return this.set('Content-Type', known || 'application/octet-stream')
  }

  contentType (kind) { return this.type(kind) }
  location (url) { return this.set('Location', encodeURI(url).replace(/%25([0-9a-f]{2})/gi, '%$1')) }
  vary (name) { return this.append('Vary', name) }

  redirect (status, url) {
    if (typeof status !== 'number') [status, url] = [typeof url === 'number' ? url : 302, status]
    this.status(status).location(url).type('txt')
    const name = require('node:http').STATUS_CODES[status] || status
    return this.send(`${name}. Redirecting to ${this.get('Location')}`)
  }

  cookie (name, value, options = {}) {
    const text = typeof value === 'object' ? 'j:' + JSON.stringify(value) : String(value)
    const parts = [`${name}=${encodeURIComponent(text)}`, `Path=${options.path ?? '/'}`]
    if (options.domain) parts.push(`Domain=${options.domain}`)
    if (options.maxAge != null) {
      parts.push(`Max-Age=${Math.floor(options.maxAge / 1000)}`)
      options = { expires: new Date(Date.now() + options.maxAge), ...options }
    }
    if (options.expires) parts.push(`Expires=${options.expires.toUTCString()}`)
    if (options.httpOnly) parts.push('HttpOnly')
    if (options.secure) parts.push('Secure')
    if (options.sameSite) parts.push(`SameSite=${options.sameSite === true ? 'Strict' : capital(options.sameSite)}`)
    return this.append('Set-Cookie', parts.join('; '))
  }

  clearCookie (name, options = {}) {
    return this.cookie(name, '', { ...options, maxAge: undefined, expires: new Date(1) })
  }

  writeHead (status, message, headers) {
    if (this.#call.begun && !this.#call.cancelled) throw new AlreadySent('write headers')
    this.status(status)
    if (typeof message !== 'string') headers = message
    else this.statusMessage = message
    if (Array.isArray(headers)) {
      for (let i = 0; i + 1 < headers.length; i += 2) this.append(headers[i], headers[i + 1])
    } else {
      for (const name of Object.keys(headers || {})) this.setHeader(name, headers[name])
    }
    return this
  }

  flushHeaders () {
    if (!this.#call.begun) this.#begin(EMPTY, 0)
  }

  // --- the body ---

  send (body) {
    if (this.#call.begun && !this.#call.cancelled) throw new AlreadySent('set headers')
    if (typeof body === 'string') {
      // Express would call it text/html; here the gateway names plain text.
      if (this.#headers !== null && this.hasHeader('content-type')) {
        this.set('Content-Type', withCharset(this.get('content-type')))
      }
    } else if (body === undefined || body === null) {
      body = ''
    } else if (ArrayBuffer.isView(body)) {
      body = bytesOf(body)
    } else {
      return this.json(body)
    }
    const { statusCode } = this
    if (statusCode === 204 || statusCode === 205 || statusCode === 304) body = ''
    this.end(body)
    return this
  }

  json (value) {
    if (this.#call.begun && !this.#call.cancelled) throw new AlreadySent('set headers')
    const text = JSON.stringify(value)
    if (text === undefined && value !== undefined) {
      throw new TypeError(`res.send and res.json cannot send a ${typeof value}, for which JSON has no text`)
    }
    if (!this.hasHeader('content-type')) this.set('Content-Type', 'application/json')
    return this.send(text)
  }

  // Streams; false when the caller reads more slowly, 'drain' follows.
  write (chunk, encoding, callback) {
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding]
    if (this.writableEnded) return this.#late(callback)
    if (this.#call.ended || this.#call.cancelled) {
      this.#coax()
      return false
    }
    const bytes = bytesOf(chunk, encoding)
    if (!this.#call.begun && this.#call.credit >= bytes.length) {
      this.#begin(bytes, 0)
      if (callback) process.nextTick(callback)
    } else {
      if (!this.#call.begun) this.#begin(EMPTY, 0)
      this.#queue ??= []
      this.#queue.push([bytes, callback])
      this.pour()
    }
    this.#wantsDrain = this.#queue?.length > 0 || this.#call.credit <= 0
    return !this.#wantsDrain
  }

  end (chunk, encoding, callback) {
    if (typeof chunk === 'function') [chunk, encoding, callback] = [undefined, undefined, chunk]
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding]
    if (this.writableEnded) {
      if (chunk !== undefined && chunk !== null) this.#late(callback)
      else if (callback) process.nextTick(callback)
      return this
    }
    const call = this.#call
    if (call.ended || call.cancelled) {
      // Nobody reads it; the call has ended by it nevertheless.
      this.writableEnded = true
      call.end(ENDED, 0, EMPTY)
      return this
    }
    let bytes = chunk ?? ''
    if (typeof bytes !== 'string' || encoding) bytes = bytesOf(bytes, encoding)
    if (!call.begun && bytes.length * 3 <= call.credit) {
      this.#begin(bytes, END)
      this.writableEnded = true
      this.#callback = callback
      return this
    }
    if (!call.begun) this.#begin(EMPTY, 0)
    this.writableEnded = true
    this.#callback = callback
    this.#queue ??= []
    if (bytes.length > 0) this.#queue.push([bytesOf(bytes), undefined])
    this.pour()
    return this
  }

  // The function gives up: the reply is broken off.
  destroy (error) {
    if (!this.destroyed && !this.#call.ended) {
      this.#call.fail(error ? words(error) : 'the function destroyed its response')
    }
    return this
  }

  // Sends REPLY with the first part of the body. A string is written in place: most
  // replies are one short string.
  #begin (body, flags) {
    const head = this.#head()
    const text = typeof body === 'string'
    const room = text ? Buffer.byteLength(body) : body.length
    const frame = Buffer.allocUnsafe(16 + head.length + room)
    frameHead(frame, REPLY, flags, this.#call.number)
    frame.writeUInt32LE(head.length, 12)
    if (head.length > 0) frame.latin1Write(head, 16)
    if (text) frame.utf8Write(body, 16 + head.length)
    else body.copy(frame, 16 + head.length)
    const call = this.#call
    call.begun = true
    call.credit -= room
    if (flags & END) {
      call.ended = true
      calls.delete(call.number)
      Response.finished.push(this)
    }
    wire.push(frame)
  }

  #head () {
    // None where the function set none: over CoAP that depends on the method.
    const isSet = this.#statusIsSet || this.statusCode !== 200
    if (isSet) checkStatus(this.statusCode)
    let head = isSet ? String(this.statusCode) : ''
    for (const [name, [, value]] of this.#headers ?? []) {
      for (const one of Array.isArray(value) ? value : [value]) head += `\n${name}\n${one}`
    }
    if (head.length > HEAD_BYTES_MAX) {
      throw new RangeError(`the reply has ${head.length} bytes of headers; at most ${HEAD_BYTES_MAX} fit`)
    }
    return head
  }

  // Sends of the queue what credit allows.
  pour () {
    const call = this.#call
    while (!call.ended && this.#queue?.length > 0 && (call.credit > 0 || this.#queue[0][0].length === 0)) {
      const [bytes, callback] = this.#queue[0]
      const piece = bytes.subarray(0, Math.min(call.credit, PIECE_BYTES))
      const whole = piece.length === bytes.length
      call.credit -= piece.length
      if (whole) this.#queue.shift()
      else this.#queue[0][0] = bytes.subarray(piece.length)
      if (whole && this.writableEnded && this.#queue.length === 0) this.#last(piece)
      else if (piece.length > 0) wire.send(BODY, 0, call.number, piece)
      if (whole && callback) process.nextTick(callback)
    }
    if (!call.ended && call.begun && this.writableEnded && !(this.#queue?.length > 0)) this.#last(EMPTY)
    if (this.#wantsDrain && call.credit > 0 && !(this.#queue?.length > 0) && !this.writableEnded) {
      this.#wantsDrain = false
      process.nextTick(() => current.run(call, () => this.emit('drain')))
    }
  }

  #last (piece) {
    this.#call.end(BODY, END, piece)
    Response.finished.push(this)
  }

  #finish () {
    this.writableFinished = true
    if (this._eventsCount === 0 && !this.#callback) return
    process.nextTick(() => current.run(this.#call, () => {
      if (this.#callback) this.#callback()
      this.emit('finish')
      this.emit('close')
    }))
  }

  // Nobody reads any more. Listeners run in a turn of their own: what they throw must
  // not reach who calls this. With a method named abort, stream.pipeline would take
  // this for a client's request, and not destroy it when its source breaks.
  leave () {
    this.destroyed = true
    this.#queue = null
    current.run(this.#call, () => process.nextTick(() => this.emit('close')))
    this.#coax()
  }

  // A function that waits for 'drain' to go on must come to its end nevertheless.
  #coax () {
    current.run(this.#call, () => setImmediate(() => this.emit('drain')))
  }

  // The call was failed from outside of the function.
  fail () {
    if (this.destroyed) return
    this.writableEnded = true
    this.leave()
  }

  #late (callback) {
    const error = new Error('write after end')
    error.code = 'ERR_STREAM_WRITE_AFTER_END'
    if (callback) process.nextTick(callback, error)
    if (this.listenerCount('error') > 0) process.nextTick(() => this.emit('error', error))
    else log(error)
    return false
  }
}

function capital (word) { return word[0].toUpperCase() + word.slice(1).toLowerCase() }

function bytesOf (chunk, encoding) {
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding)
  if (Buffer.isBuffer(chunk)) return chunk
  if (ArrayBuffer.isView(chunk)) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  throw new TypeError('res.write and res.end take a string, Buffer or Uint8Array, ' +
    `not ${chunk === null ? 'null' : typeof chunk}; use res.json for objects`)
}

// Express adds this to types of text.
function withCharset (type) {
  if (/;\s*charset=/i.test(type)) return type
  return /^\s*(text\/|application\/(json|javascript|xml))/i.test(type) ? `${type}; charset=utf-8` : type
}

function checkStatus (code) {
  if (!Number.isInteger(code) || code < 200 || code > 599) {
    throw new RangeError(`the status ${describe(code)} is none; use a whole number from 200 to 599`)
  }
}

function checkHeader (name, value) {
  if (typeof name !== 'string' || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name)) {
    throw new TypeError(`a header cannot be named ${describe(name)}; a name is made of letters, digits and -`)
  }
  if (value === undefined || value === null) throw new TypeError(`the header ${name} has no value`)
  for (const one of Array.isArray(value) ? value : [value]) {
    // eslint-disable-next-line no-control-regex
    if (/[^\t\x20-\x7e\x80-\xff]/.test(String(one))) {
      throw new TypeError(`the header ${name} holds a line break, another control character, ` +
        'or one beyond Latin-1; encodeURIComponent makes it fit')
    }
  }
}

// --- loading the function ---------------------------------------------------------

function load (text) {
  loading = true
  let folder
  let entry = null
  try {
    folder = JSON.parse(text).folder
    process.chdir(folder)
  } catch (error) {
    leave(70, `LOAD does not parse, or its folder is not there: ${error.message}`)
  }
  const refuse = (error) => {
    const reason = error instanceof Unfit ? error.message : whyNot(error, folder, entry)
    // The server has it; the process goes as soon as it has been written.
    handler = () => {}
    wire.send(FAILED, 0, 0, Buffer.from(reason.slice(0, FAILURE_CHARS_MAX)))
    wire.flush(() => process.exit(1))
  }
  const ready = (found) => {
    handler = found
    wire.send(READY, 0, 0, Buffer.from(JSON.stringify({ protocol: 1, runtime: `Node ${process.version}` })))
  }
  try {
    entry = esEntry(folder)
    // What a module waits for at its top level may take its time; PING is answered.
    if (entry !== null) import(require('node:url').pathToFileURL(entry)).then(functionOf).then(ready, refuse)
    else ready(functionOf(require(folder)))
  } catch (error) {
    refuse(error)
  }
}

class Unfit extends Error {}

const MODULE_SYNTAX = /import statement outside|Unexpected token 'export'|import\.meta/

function functionOf (exported) {
  const inner = exported?.default
  for (const one of [exported, inner, exported?.fn, inner?.default, inner?.fn]) {
    if (typeof one === 'function') return one
  }
  if (types.isModuleNamespaceObject(exported)) {
    throw new Unfit('the function\'s module exports no function, neither as its default nor as fn; ' +
      'write export default (req, res) => { ... }')
  }
  throw new Unfit(`the function's module exports ${exported === null ? 'null' : typeof exported} ` +
    'and no function; write module.exports = (req, res) => { ... }')
}

// The file to import, where the function is an ES module; null where require finds it.
function esEntry (folder) {
  const has = (name) => fs.statSync(path.join(folder, name), { throwIfNoEntry: false })?.isFile() === true
  if (!has('package.json') && !has('index.js') && !has('index.mjs')) {
    throw new Unfit('the function\'s folder has neither package.json nor index.js nor index.mjs; put a module that ' +
      'exports a function (req, res) at the top of the uploaded folder')
  }
  const pack = packageOf(folder) ?? {}
  const isModule = pack.type === 'module'
  // As Node has it, except that a CommonJS package without "main" is its index.js.
  const key = pack.exports !== undefined && (isModule || (pack.main === undefined && !has('index.js'))) ? 'exports' : 'main'
  const named = key === 'exports' ? exportOf(pack.exports) : pack.main
  if (typeof named !== 'string' && (key === 'exports' || (isModule && named !== undefined))) {
    throw new Unfit(`"${key}" of package.json names no file; write "${key}": "./index.js"`)
  }
  const found = (named === undefined ? ['index.js', 'index.mjs'] : around(String(named))).find(has)
  if (found === undefined) {
    if (key === 'main' && !isModule && !/\.mjs$/.test(named ?? '')) return null
    throw new Unfit(named === undefined
      ? 'package.json names no "main", and there is no index.js'
      : `package.json names as "${key}" a file that is not there: ${named}`)
  }
  const entry = path.join(folder, found)
  if (/\.mjs$/.test(entry) || (!/\.cjs$/.test(entry) && typeAt(entry, folder) === 'module')) return entry
  // A CommonJS file that require(folder) would not find by itself.
  return key === 'exports' || isModule ? entry : null
}

function packageOf (folder) {
  try {
    return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8').replace(/^\ufeff/, ''))
  } catch {
    // There is none, or require says what is wrong with it.
    return null
  }
}

// What may be meant by a "main", which need not be spelt out.
function around (name) {
  return [name, `${name}.js`, `${name}.mjs`, path.join(name, 'index.js'), path.join(name, 'index.mjs')]
}

// The file that "exports" names for the package itself (Node's conditional exports).
function exportOf (exports) {
  if (Array.isArray(exports)) return exports.map(exportOf).find((one) => typeof one === 'string')
  if (typeof exports !== 'object' || exports === null) return exports
  if (Object.hasOwn(exports, '.')) return exportOf(exports['.'])
  for (const [condition, value] of Object.entries(exports)) {
    if (!['import', 'node', 'module-sync', 'default'].includes(condition)) continue
    const named = exportOf(value)
    if (typeof named === 'string') return named
  }
}

// What the package.json next above a file says of .js files.
function typeAt (file, folder) {
  for (let at = path.dirname(file); ; at = path.dirname(at)) {
    const pack = packageOf(at)
    if (pack !== null || at === folder || at === path.dirname(at)) return pack?.type
  }
}

// What a person needs to know of why the module does not load.
function whyNot (error, folder, entry) {
  const code = error?.code
  if (code === 'ERR_REQUIRE_ASYNC_MODULE' || (error instanceof SyntaxError && MODULE_SYNTAX.test(error.message))) {
    return 'the function is written as an ES module, but not marked as one; put "type": "module" into its ' +
      'package.json, or name the file .mjs\n' + account(error)
  }
  if (code === 'ERR_MODULE_NOT_FOUND') {
    const [, kind, wanted, from] = /^Cannot find (module|package) '([^']*)' imported from (.*)$/m.exec(error.message) ?? []
    const by = from === undefined ? '' : ` (imported by ${path.relative(folder, from)})`
    if (kind === 'package') return `the package ${wanted} is missing${by}; name it in "dependencies" of package.json`
    if (kind === 'module') {
      const whole = around(wanted).slice(1).find((name) => fs.existsSync(name))
      const hint = whole === undefined ? '' : `; import takes whole names: ${path.relative(path.dirname(from), whole)}`
      return `the file ${path.relative(folder, wanted)} is missing${by}${hint}`
    }
  }
  if (code === 'MODULE_NOT_FOUND') {
    if (error.path) {
      return `${path.relative(folder, error.path)} names as "main" a file that is not there, ` +
        'and there is no index.js beside it'
    }
    const wanted = /^Cannot find module '([^']*)'/.exec(error.message)?.[1]
    if (wanted === folder) return 'package.json names no "main" that is there, and there is no index.js'
    const from = error.requireStack ? ` (required by ${path.relative(folder, error.requireStack[0])})` : ''
    return /^[./]/.test(wanted ?? '')
      ? `the file ${wanted} is missing${from}`
      : `the package ${wanted} is missing${from}; name it in "dependencies" of package.json`
  }
  const place = entry !== null && error instanceof SyntaxError ? placeOf(error, entry) : ''
  return 'the function could not be loaded\n' + place + account(error)
}

// The line at which an ES module breaks the syntax: Node tells it only when it dies of it,
// so another one does. Nothing of a module runs before all that it imports is parsed.
function placeOf (error, entry) {
  const url = JSON.stringify(require('node:url').pathToFileURL(entry))
  const { stderr } = require('node:child_process').spawnSync(process.execPath,
    ['--input-type=module', '--eval', `await import(${url})`],
    { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'], timeout: PLACE_MS, maxBuffer: PIECE_BYTES })
  const end = stderr?.indexOf(`SyntaxError: ${error.message}`) ?? -1
  return end > 0 ? stderr.slice(0, end) : ''
}

main()
