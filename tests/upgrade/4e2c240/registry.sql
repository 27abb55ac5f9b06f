BEGIN TRANSACTION;
CREATE TABLE broker (directory TEXT PRIMARY KEY, pid_file TEXT NOT NULL);
INSERT INTO "broker" VALUES('/etc/mosquitto/kaopass','');
CREATE TABLE certificate (
    number TEXT PRIMARY KEY, device TEXT NOT NULL, serial TEXT NOT NULL, pem TEXT NOT NULL,
    issued_ms INTEGER NOT NULL, ends_ms INTEGER NOT NULL, revoked_ms INTEGER);
INSERT INTO "certificate" VALUES('a1','bus-1','S1','pem a1',1800000000000,1800003600000,NULL);
INSERT INTO "certificate" VALUES('a3','bus-3','S3','pem a3',1800000000000,1800003600000,1800000000001);
CREATE TABLE claim (
    digest TEXT PRIMARY KEY, device TEXT NOT NULL, serial TEXT NOT NULL,
    created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    approved INTEGER NOT NULL, key TEXT, certificate TEXT);
INSERT INTO "claim" VALUES('4467c57fb8669b03ea0a64017a11f5abec7be98610d4576dadb3606421c73ad7','bus-1','S1',1800000000000,1800003600000,1,'k1','a1');
INSERT INTO "claim" VALUES('bca581ef3a8d1c177b737912577e9a725d0ff2114118b3071e9aa26591d028a1','bus-2','S2',1800000000000,1800003600000,1,NULL,NULL);
CREATE TABLE purpose (device TEXT PRIMARY KEY, purpose TEXT NOT NULL);
INSERT INTO "purpose" VALUES('bus-1','bus');
INSERT INTO "purpose" VALUES('bus-3','hall');
INSERT INTO "purpose" VALUES('bus-2','bus');
CREATE INDEX certificate_device ON certificate (device);
COMMIT;
