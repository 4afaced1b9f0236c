module.exports = (req, res) => {
  const seconds = Math.floor(process.uptime());
  res.set("Cache-Control", "max-age=1").type("text/plain").send(`${seconds} s`);
};
