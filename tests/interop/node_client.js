// Many clients in one process, for the tests: Node's ws, and Node's mqtt over TCP, TLS and WebSocket.
// One JSON command a line on stdin, one JSON event a line on stdout; payloads are base64, long ones a digest.
//   {do: "open", name, kind: "ws"|"mqtt", url, options, files: {ca, cert, key}}
//   {do: "subscribe", name, topics, options}
//   {do: "publish", name, topic, payload, file, qos, retain, properties, binary}
//   {do: "close", name}, without a word where it is MQTT    {do: "end", name, options}, with DISCONNECT
// Correlation data is base64 in both directions.
const crypto = require('crypto');
const fs = require('fs');
const readline = require('readline');
const mqtt = require('mqtt');
const WebSocket = require('ws');

const LONG = 4096;
const clients = {};
const withBytes = (properties) => (properties && properties.correlationData
  ? { ...properties, correlationData: Buffer.from(properties.correlationData, 'base64') } : properties);
const withText = (properties) => (properties && properties.correlationData
  ? { ...properties, correlationData: properties.correlationData.toString('base64') } : properties || {});
const say = (name, event, more) => console.log(JSON.stringify({ name, event, ...more }));
const shown = (data) => (data.length > LONG
  ? { digest: crypto.createHash('sha256').update(data).digest('hex') }
  : { payload: data.toString('base64') });

function openWebSocket(name, url, options) {
  const socket = new WebSocket(url, options.protocols || [], options);
  socket.on('open', () => say(name, 'open', {}));
  socket.on('message', (data, isBinary) => say(name, 'message', { binary: isBinary, ...shown(data) }));
  socket.on('unexpected-response', (request, response) => say(name, 'refused', { status: response.statusCode }));
  socket.on('error', (error) => say(name, 'error', { message: error.message }));
  socket.on('close', (code, reason) => say(name, 'close', { code, reason: reason.toString() }));
  return {
    publish: (topic, data, command) => socket.send(data, { binary: command.binary !== false }, () => say(name, 'published', {})),
    close: () => socket.close(1000),
  };
}

function openMqtt(name, url, options) {
  const client = mqtt.connect(url, options);
  client.on('connect', (packet) => say(name, 'open', {
    session: packet.sessionPresent, properties: packet.properties || {},
  }));
  client.on('message', (topic, data, packet) => say(name, 'message', {
    topic,
    qos: packet.qos,
    retain: packet.retain,
    dup: packet.dup,
    properties: withText(packet.properties),
    ...shown(data),
  }));
  // The client puts the topic in again before it hands the message on.
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'publish' && packet.topic.length === 0) say(name, 'alias', { alias: packet.properties.topicAlias });
  });
  client.on('disconnect', (packet) => say(name, 'disconnect', { code: packet.reasonCode }));
  client.on('error', (error) => say(name, 'error', { message: error.message, code: error.code }));
  client.on('close', () => say(name, 'close', {}));
  return {
    publish: (topic, data, command) => client.publish(
      topic,
      data,
      { qos: command.qos || 0, retain: command.retain || false, properties: withBytes(command.properties) },
      (error, packet) => say(name, 'published', { error: error && error.message, code: error && error.code }),
    ),
    subscribe: (topics, wishes) => client.subscribe(topics, wishes, (error, granted) => say(name, 'subscribed', {
      error: error && error.message, granted: (granted || []).map((one) => one.qos),
    })),
    close: () => client.end(true),
    end: (wishes) => client.end(false, wishes),
  };
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line);
  const { name } = command;
  if (command.do === 'open') {
    const options = { ...command.options };
    for (const [option, file] of Object.entries(command.files || {})) options[option] = fs.readFileSync(file);
    clients[name] = (command.kind === 'ws' ? openWebSocket : openMqtt)(name, command.url, options);
  } else if (command.do === 'publish') {
    const data = command.file ? fs.readFileSync(command.file) : Buffer.from(command.payload, 'base64');
    clients[name].publish(command.topic, data, command);
  } else if (command.do === 'subscribe') {
    clients[name].subscribe(command.topics, command.options);
  } else if (command.do === 'end') {
    clients[name].end(command.options);
  } else {
    clients[name].close();
  }
}).on('close', () => process.exit(0));
