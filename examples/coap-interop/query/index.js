module.exports = (req, res) => {
  const lines = Object.entries(req.query).map(([name, value]) => `${name}=${value}`);
  res.type("text/plain").send(`you asked with ${lines.length} parameters\n${lines.join("\n")}\n`);
};
