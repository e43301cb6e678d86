// Bouncy Castle as the other end: a client, a server, and a source of one message of each body type.
//   java -cp bcprov.jar:bcutil.jar:bcpkix.jar Peer.java client URL     REFERENCE and SECRET in the environment; a line for each step
//   java -cp ... Peer.java server                                     a request a line (base64), an answer a line
//   java -cp ... Peer.java messages                                   "NAME BASE64" a line

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.security.Security;
import java.security.spec.ECGenParameterSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1EncodableVector;
import org.bouncycastle.asn1.ASN1GeneralizedTime;
import org.bouncycastle.asn1.ASN1Integer;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.DERNull;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.DERSequence;
import org.bouncycastle.asn1.DERTaggedObject;
import org.bouncycastle.asn1.DERUTF8String;
import org.bouncycastle.asn1.cmp.CAKeyUpdAnnContent;
import org.bouncycastle.asn1.cmp.CMPCertificate;
import org.bouncycastle.asn1.cmp.CMPObjectIdentifiers;
import org.bouncycastle.asn1.cmp.CRLAnnContent;
import org.bouncycastle.asn1.cmp.CertConfirmContent;
import org.bouncycastle.asn1.cmp.CertOrEncCert;
import org.bouncycastle.asn1.cmp.CertRepMessage;
import org.bouncycastle.asn1.cmp.CertResponse;
import org.bouncycastle.asn1.cmp.CertStatus;
import org.bouncycastle.asn1.cmp.CertifiedKeyPair;
import org.bouncycastle.asn1.cmp.Challenge;
import org.bouncycastle.asn1.cmp.ErrorMsgContent;
import org.bouncycastle.asn1.cmp.GenMsgContent;
import org.bouncycastle.asn1.cmp.GenRepContent;
import org.bouncycastle.asn1.cmp.InfoTypeAndValue;
import org.bouncycastle.asn1.cmp.KeyRecRepContent;
import org.bouncycastle.asn1.cmp.PBMParameter;
import org.bouncycastle.asn1.cmp.PKIBody;
import org.bouncycastle.asn1.cmp.PKIConfirmContent;
import org.bouncycastle.asn1.cmp.PKIFailureInfo;
import org.bouncycastle.asn1.cmp.PKIFreeText;
import org.bouncycastle.asn1.cmp.PKIHeader;
import org.bouncycastle.asn1.cmp.PKIMessage;
import org.bouncycastle.asn1.cmp.PKIMessages;
import org.bouncycastle.asn1.cmp.PKIStatus;
import org.bouncycastle.asn1.cmp.PKIStatusInfo;
import org.bouncycastle.asn1.cmp.POPODecKeyChallContent;
import org.bouncycastle.asn1.cmp.POPODecKeyRespContent;
import org.bouncycastle.asn1.cmp.PollRepContent;
import org.bouncycastle.asn1.cmp.PollReqContent;
import org.bouncycastle.asn1.cmp.RevAnnContent;
import org.bouncycastle.asn1.cmp.RevDetails;
import org.bouncycastle.asn1.cmp.RevRepContent;
import org.bouncycastle.asn1.cmp.RevRepContentBuilder;
import org.bouncycastle.asn1.cmp.RevReqContent;
import org.bouncycastle.asn1.crmf.AttributeTypeAndValue;
import org.bouncycastle.asn1.crmf.CRMFObjectIdentifiers;
import org.bouncycastle.asn1.crmf.CertId;
import org.bouncycastle.asn1.crmf.CertReqMessages;
import org.bouncycastle.asn1.crmf.CertTemplate;
import org.bouncycastle.asn1.crmf.CertTemplateBuilder;
import org.bouncycastle.asn1.crmf.SubsequentMessage;
import org.bouncycastle.asn1.iana.IANAObjectIdentifiers;
import org.bouncycastle.asn1.nist.NISTObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.CertificationRequest;
import org.bouncycastle.asn1.x500.RDN;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.asn1.x509.BasicConstraints;
import org.bouncycastle.asn1.x509.CRLReason;
import org.bouncycastle.asn1.x509.Certificate;
import org.bouncycastle.asn1.x509.CertificateList;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.ExtensionsGenerator;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.KeyUsage;
import org.bouncycastle.asn1.x509.SubjectKeyIdentifier;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.X509v2CRLBuilder;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.cmp.CertificateConfirmationContent;
import org.bouncycastle.cert.cmp.CertificateConfirmationContentBuilder;
import org.bouncycastle.cert.cmp.CertificateStatus;
import org.bouncycastle.cert.cmp.GeneralPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessageBuilder;
import org.bouncycastle.cert.cmp.RevocationDetailsBuilder;
import org.bouncycastle.cert.crmf.CertificateRequestMessage;
import org.bouncycastle.cert.crmf.CertificateRequestMessageBuilder;
import org.bouncycastle.cert.crmf.PKMACBuilder;
import org.bouncycastle.cert.crmf.RegTokenControl;
import org.bouncycastle.cert.crmf.jcajce.JcePKMACValuesCalculator;
import org.bouncycastle.cert.jcajce.JcaX509ExtensionUtils;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.DigestCalculatorProvider;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;

public class Peer {
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final AlgorithmIdentifier SHA256 = new AlgorithmIdentifier(NISTObjectIdentifiers.id_sha256, DERNull.INSTANCE);
    private static final AlgorithmIdentifier HMAC = new AlgorithmIdentifier(IANAObjectIdentifiers.hmacSHA1, DERNull.INSTANCE);
    private static final X500Name SERVER = new X500Name("CN=Bouncy CA");
    private static final InfoTypeAndValue IMPLICIT = new InfoTypeAndValue(CMPObjectIdentifiers.it_implicitConfirm, DERNull.INSTANCE);

    private static byte[] fresh(int length) {
        byte[] bytes = new byte[length];
        RANDOM.nextBytes(bytes);
        return bytes;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }

    private static PKMACBuilder macs() throws Exception {
        return new PKMACBuilder(new JcePKMACValuesCalculator().setProvider("BC"))
                .setParameters(new PBMParameter(fresh(16), SHA256, 500, HMAC));
    }

    private static KeyPair key() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", "BC");
        generator.initialize(new ECGenParameterSpec("P-256"));
        return generator.generateKeyPair();
    }

    private static ContentSigner signer(KeyPair key) throws Exception {
        return new JcaContentSignerBuilder("SHA256withECDSA").setProvider("BC").build(key.getPrivate());
    }

    private static SubjectPublicKeyInfo info(KeyPair key) {
        return SubjectPublicKeyInfo.getInstance(key.getPublic().getEncoded());
    }

    private static DigestCalculatorProvider digests() throws Exception {
        return new JcaDigestCalculatorProviderBuilder().setProvider("BC").build();
    }

    // Who signs or computes a MAC.
    interface Credential {
        GeneralName name();

        byte[] identifier();

        ProtectedPKIMessage protect(ProtectedPKIMessageBuilder builder) throws Exception;

        boolean verifies(ProtectedPKIMessage answer) throws Exception;
    }

    record Secret(byte[] reference, char[] secret) implements Credential {
        public GeneralName name() {
            return new GeneralName(new X500Name("CN=" + new String(reference)));
        }

        public byte[] identifier() {
            return reference;
        }

        public ProtectedPKIMessage protect(ProtectedPKIMessageBuilder builder) throws Exception {
            return builder.build(macs().build(secret));
        }

        public boolean verifies(ProtectedPKIMessage answer) throws Exception {
            return answer.hasPasswordBasedMacProtection() && answer.verify(macs(), secret);
        }
    }

    record Certified(X509CertificateHolder certificate, KeyPair key) implements Credential {
        public GeneralName name() {
            return new GeneralName(certificate.getSubject());
        }

        public byte[] identifier() {
            return SubjectKeyIdentifier.fromExtensions(certificate.getExtensions()).getKeyIdentifier();
        }

        public ProtectedPKIMessage protect(ProtectedPKIMessageBuilder builder) throws Exception {
            return builder.addCMPCertificate(certificate).build(signer(key));
        }

        public boolean verifies(ProtectedPKIMessage answer) throws Exception {
            X509CertificateHolder first = answer.getCertificates()[0];
            return answer.getHeader().getSender().equals(new GeneralName(first.getSubject()))
                    && answer.verify(new JcaContentVerifierProviderBuilder().setProvider("BC").build(first));
        }
    }

    // -- client -----------------------------------------------------------------------------------------------------

    static class Client {
        private final HttpClient http = HttpClient.newHttpClient();
        private final URI url;
        private byte[] transaction;
        private byte[] last;

        Client(String url) {
            this.url = URI.create(url);
        }

        ProtectedPKIMessage open(Credential who, PKIBody body, int expected, InfoTypeAndValue... infos) throws Exception {
            transaction = fresh(16);
            last = null;
            return send(who, body, expected, infos);
        }

        ProtectedPKIMessage send(Credential who, PKIBody body, int expected, InfoTypeAndValue... infos) throws Exception {
            byte[] nonce = fresh(16);
            ProtectedPKIMessageBuilder builder = new ProtectedPKIMessageBuilder(who.name(), new GeneralName(new X500Name(new RDN[0])))
                    .setMessageTime(new Date())
                    .setSenderKID(who.identifier())
                    .setTransactionID(transaction)
                    .setSenderNonce(nonce)
                    .setBody(body);
            if (last != null) {
                builder.setRecipNonce(last);
            }
            for (InfoTypeAndValue info : infos) {
                builder.addGeneralInfo(info);
            }
            byte[] der = who.protect(builder).toASN1Structure().getEncoded("DER");
            HttpResponse<byte[]> response = http.send(
                    HttpRequest.newBuilder(url)
                            .header("Content-Type", "application/pkixcmp")
                            .POST(HttpRequest.BodyPublishers.ofByteArray(der))
                            .build(),
                    HttpResponse.BodyHandlers.ofByteArray());
            check(response.statusCode() == 200, "HTTP status " + response.statusCode());
            check("application/pkixcmp".equals(response.headers().firstValue("Content-Type").orElse("")), "content type");
            ProtectedPKIMessage answer = new ProtectedPKIMessage(new GeneralPKIMessage(response.body()));
            check(who.verifies(answer), "protection of the answer");
            PKIHeader header = answer.getHeader();
            check(Arrays.equals(header.getTransactionID().getOctets(), transaction), "transactionID");
            check(Arrays.equals(header.getRecipNonce().getOctets(), nonce), "recipNonce");
            last = header.getSenderNonce().getOctets();
            if (answer.getBody().getType() == PKIBody.TYPE_ERROR) {
                PKIStatusInfo status = ErrorMsgContent.getInstance(answer.getBody().getContent()).getPKIStatusInfo();
                throw new IllegalStateException("error: " + status.getStatusString().getStringAtUTF8(0));
            }
            check(answer.getBody().getType() == expected, "body type " + answer.getBody().getType());
            return answer;
        }

        private X509CertificateHolder certificate(ProtectedPKIMessage answer, SubjectPublicKeyInfo key) {
            CertResponse response = CertRepMessage.getInstance(answer.getBody().getContent()).getResponse()[0];
            int status = response.getStatus().getStatus().intValue();
            check(status == PKIStatus.GRANTED || status == PKIStatus.GRANTED_WITH_MODS, "status " + status);
            X509CertificateHolder certificate =
                    new X509CertificateHolder(response.getCertifiedKeyPair().getCertOrEncCert().getCertificate().getX509v3PKCert());
            check(certificate.getSubjectPublicKeyInfo().equals(key), "key");
            return certificate;
        }

        private void confirm(Credential who, X509CertificateHolder certificate, BigInteger id) throws Exception {
            CertificateConfirmationContent content =
                    new CertificateConfirmationContentBuilder().addAcceptedCertificate(certificate, id).build(digests());
            send(who, new PKIBody(PKIBody.TYPE_CERT_CONFIRM, content.toASN1Structure()), PKIBody.TYPE_CONFIRM);
        }

        X509CertificateHolder enroll(Credential who, int type, X500Name subject, KeyPair key, boolean implicit) throws Exception {
            CertificateRequestMessage request = request(subject, key);
            InfoTypeAndValue[] infos = implicit ? new InfoTypeAndValue[] {IMPLICIT} : new InfoTypeAndValue[0];
            ProtectedPKIMessage answer =
                    open(who, new PKIBody(type, new CertReqMessages(request.toASN1Structure())), type + 1, infos);
            X509CertificateHolder certificate = certificate(answer, info(key));
            InfoTypeAndValue[] granted = answer.getHeader().getGeneralInfo();
            boolean confirmed = granted != null
                    && Arrays.stream(granted).anyMatch(each -> each.getInfoType().equals(CMPObjectIdentifiers.it_implicitConfirm));
            check(confirmed == implicit, "implicitConfirm");
            if (!implicit) {
                confirm(who, certificate, BigInteger.ZERO);
            }
            return certificate;
        }

        X509CertificateHolder convert(Credential who, X500Name subject, KeyPair key) throws Exception {
            CertificationRequest csr = new JcaPKCS10CertificationRequestBuilder(subject, key.getPublic())
                    .build(signer(key))
                    .toASN1Structure();
            ProtectedPKIMessage answer = open(who, new PKIBody(PKIBody.TYPE_P10_CERT_REQ, csr), PKIBody.TYPE_CERT_REP);
            X509CertificateHolder certificate = certificate(answer, info(key));
            confirm(who, certificate, BigInteger.ONE.negate());
            return certificate;
        }

        void revoke(Credential who, X509CertificateHolder certificate) throws Exception {
            ExtensionsGenerator extensions = new ExtensionsGenerator();
            extensions.addExtension(Extension.reasonCode, false, CRLReason.lookup(CRLReason.superseded));
            RevDetails details = new RevDetails(
                    new CertTemplateBuilder()
                            .setIssuer(certificate.getIssuer())
                            .setSerialNumber(new ASN1Integer(certificate.getSerialNumber()))
                            .build(),
                    extensions.generate());
            ProtectedPKIMessage answer =
                    open(who, new PKIBody(PKIBody.TYPE_REVOCATION_REQ, new RevReqContent(details)), PKIBody.TYPE_REVOCATION_REP);
            PKIStatusInfo status = PKIStatusInfo.getInstance(
                    ((RevRepContent) answer.getBody().getContent()).getStatus()[0]);
            check(status.getStatus().intValue() == PKIStatus.GRANTED, "revocation");
        }

        int certificates(Credential who) throws Exception {
            InfoTypeAndValue asked = new InfoTypeAndValue(CMPObjectIdentifiers.id_it_caCerts);
            ProtectedPKIMessage answer =
                    open(who, new PKIBody(PKIBody.TYPE_GEN_MSG, new GenMsgContent(asked)), PKIBody.TYPE_GEN_REP);
            InfoTypeAndValue told = GenRepContent.getInstance(answer.getBody().getContent()).toInfoTypeAndValueArray()[0];
            check(told.getInfoType().equals(CMPObjectIdentifiers.id_it_caCerts), "infoType");
            return told.getInfoValue() == null ? 0 : DERSequence.getInstance(told.getInfoValue()).size();
        }
    }

    private static CertificateRequestMessage request(X500Name subject, KeyPair key) throws Exception {
        return new CertificateRequestMessageBuilder(BigInteger.ZERO)
                .setSubject(subject)
                .setPublicKey(info(key))
                .setProofOfPossessionSigningKeySigner(signer(key))
                .build();
    }

    private static void client(String url) throws Exception {
        Client client = new Client(url);
        X500Name subject = new X500Name("CN=bouncy");
        Credential secret =
                new Secret(System.getenv("REFERENCE").getBytes(), System.getenv("SECRET").toCharArray());
        KeyPair first = key();
        X509CertificateHolder certificate = client.enroll(secret, PKIBody.TYPE_INIT_REQ, subject, first, false);
        say("ir", certificate);
        say("ir implicit", client.enroll(secret, PKIBody.TYPE_INIT_REQ, subject, key(), true));
        say("p10cr", client.convert(secret, subject, key()));
        Credential signing = new Certified(certificate, first);
        say("cr", client.enroll(signing, PKIBody.TYPE_CERT_REQ, subject, key(), false));
        KeyPair second = key();
        X509CertificateHolder updated = client.enroll(signing, PKIBody.TYPE_KEY_UPDATE_REQ, subject, second, false);
        say("kur", updated);
        System.out.println("genm " + client.certificates(new Certified(updated, second)));
        client.revoke(new Certified(updated, second), updated);
        say("rr", updated);
    }

    private static void say(String step, X509CertificateHolder certificate) throws Exception {
        System.out.println(step + " " + Base64.getEncoder().encodeToString(certificate.getEncoded()));
    }

    // -- server -----------------------------------------------------------------------------------------------------

    static class Server {
        private final KeyPair key = key();
        private final X509CertificateHolder certificate = issue(SERVER, info(key), true);
        private final Secret secret =
                new Secret(System.getenv("REFERENCE").getBytes(), System.getenv("SECRET").toCharArray());
        private final Map<String, X509CertificateHolder> issued = new LinkedHashMap<>();

        Server() throws Exception {}

        private X509CertificateHolder issue(X500Name subject, SubjectPublicKeyInfo subjectKey, boolean ca) throws Exception {
            JcaX509ExtensionUtils utils = new JcaX509ExtensionUtils();
            Date now = new Date(System.currentTimeMillis() - 1000);
            int usage = ca ? KeyUsage.keyCertSign | KeyUsage.cRLSign | KeyUsage.digitalSignature : KeyUsage.digitalSignature;
            return new X509v3CertificateBuilder(
                            SERVER, new BigInteger(158, RANDOM), now, new Date(now.getTime() + 90L * 86400_000), subject, subjectKey)
                    .addExtension(Extension.basicConstraints, true, new BasicConstraints(ca))
                    .addExtension(Extension.keyUsage, true, new KeyUsage(usage))
                    .addExtension(Extension.subjectKeyIdentifier, false, utils.createSubjectKeyIdentifier(subjectKey))
                    .addExtension(Extension.authorityKeyIdentifier, false, utils.createAuthorityKeyIdentifier(info(key)))
                    .build(signer(key));
        }

        byte[] handle(byte[] der) throws Exception {
            ProtectedPKIMessage message = new ProtectedPKIMessage(new GeneralPKIMessage(der));
            PKIHeader header = message.getHeader();
            Credential own = message.hasPasswordBasedMacProtection() ? secret : new Certified(certificate, key);
            check(own.verifies(message), "protection of the request");
            String id = Base64.getEncoder().encodeToString(header.getTransactionID().getOctets());
            PKIBody body = message.getBody();
            PKIBody answer;
            switch (body.getType()) {
                case PKIBody.TYPE_INIT_REQ, PKIBody.TYPE_CERT_REQ, PKIBody.TYPE_KEY_UPDATE_REQ -> {
                    CertificateRequestMessage request = new CertificateRequestMessage(
                            CertReqMessages.getInstance(body.getContent()).toCertReqMsgArray()[0]);
                    CertTemplate template = request.getCertTemplate();
                    check(
                            request.isValidSigningKeyPOP(
                                    new JcaContentVerifierProviderBuilder().setProvider("BC").build(template.getPublicKey())),
                            "proof of possession");
                    answer = granted(id, body.getType() + 1, 0, template.getSubject(), template.getPublicKey());
                }
                case PKIBody.TYPE_P10_CERT_REQ -> {
                    CertificationRequest csr = CertificationRequest.getInstance(body.getContent());
                    answer = granted(
                            id,
                            PKIBody.TYPE_CERT_REP,
                            -1,
                            csr.getCertificationRequestInfo().getSubject(),
                            csr.getCertificationRequestInfo().getSubjectPublicKeyInfo());
                }
                case PKIBody.TYPE_CERT_CONFIRM -> {
                    CertificateStatus status = new CertificateConfirmationContent(
                                    CertConfirmContent.getInstance(body.getContent()))
                            .getStatusMessages()[0];
                    check(status.isVerified(issued.get(id), digests()), "certHash");
                    answer = new PKIBody(PKIBody.TYPE_CONFIRM, new PKIConfirmContent());
                }
                case PKIBody.TYPE_REVOCATION_REQ -> answer = new PKIBody(
                        PKIBody.TYPE_REVOCATION_REP,
                        new RevRepContentBuilder().add(new PKIStatusInfo(PKIStatus.granted)).build());
                case PKIBody.TYPE_GEN_MSG -> answer = new PKIBody(
                        PKIBody.TYPE_GEN_REP,
                        new GenRepContent(new InfoTypeAndValue(
                                CMPObjectIdentifiers.id_it_caCerts, new DERSequence(certificate.toASN1Structure()))));
                default -> throw new IllegalStateException("body type " + body.getType());
            }
            GeneralName sender = new GeneralName(SERVER);
            ProtectedPKIMessageBuilder builder = new ProtectedPKIMessageBuilder(sender, header.getSender())
                    .setMessageTime(new Date())
                    .setSenderKID(own.identifier())
                    .setTransactionID(header.getTransactionID().getOctets())
                    .setSenderNonce(fresh(16))
                    .setRecipNonce(header.getSenderNonce().getOctets())
                    .setBody(answer);
            return own.protect(builder).toASN1Structure().getEncoded("DER");
        }

        private PKIBody granted(String id, int type, int requestId, X500Name subject, SubjectPublicKeyInfo subjectKey)
                throws Exception {
            X509CertificateHolder made = issue(subject, subjectKey, false);
            issued.put(id, made);
            CertResponse response = new CertResponse(
                    new ASN1Integer(requestId),
                    new PKIStatusInfo(PKIStatus.granted),
                    new CertifiedKeyPair(new CertOrEncCert(new CMPCertificate(made.toASN1Structure()))),
                    null);
            return new PKIBody(type, new CertRepMessage(null, new CertResponse[] {response}));
        }
    }

    private static void serve() throws Exception {
        Server server = new Server();
        say("ca", server.certificate);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(Base64.getEncoder().encodeToString(server.handle(Base64.getDecoder().decode(line))));
        }
    }

    // -- messages ---------------------------------------------------------------------------------------------------

    private static void messages() throws Exception {
        KeyPair key = key();
        X500Name name = new X500Name("CN=bouncy,O=Example");
        JcaX509ExtensionUtils utils = new JcaX509ExtensionUtils();
        Date now = new Date();
        X509CertificateHolder holder = new X509v3CertificateBuilder(
                        name, BigInteger.TEN, now, new Date(now.getTime() + 86400_000), name, info(key))
                .addExtension(Extension.subjectKeyIdentifier, false, utils.createSubjectKeyIdentifier(info(key)))
                .build(signer(key));
        Certificate x509 = holder.toASN1Structure();
        CMPCertificate certificate = new CMPCertificate(x509);
        CertificateList crl = new X509v2CRLBuilder(name, now).setNextUpdate(new Date(now.getTime() + 1000))
                .addCRLEntry(BigInteger.TWO, now, CRLReason.keyCompromise)
                .build(signer(key))
                .toASN1Structure();
        PKIStatusInfo granted = new PKIStatusInfo(PKIStatus.granted);
        PKIStatusInfo refused = new PKIStatusInfo(
                PKIStatus.rejection, new PKIFreeText("no such device"), new PKIFailureInfo(PKIFailureInfo.badCertTemplate));
        CertReqMessages requests = new CertReqMessages(new CertificateRequestMessageBuilder(BigInteger.ZERO)
                .setSubject(name)
                .setIssuer(name)
                .setValidity(now, new Date(now.getTime() + 1000))
                .setPublicKey(info(key))
                .addExtension(Extension.keyUsage, true, new KeyUsage(KeyUsage.digitalSignature))
                .addControl(new RegTokenControl("token"))
                .setProofOfPossessionSigningKeySigner(signer(key))
                .build()
                .toASN1Structure());
        CertReqMessages indirect = new CertReqMessages(new CertificateRequestMessageBuilder(BigInteger.ZERO)
                .setSubject(name)
                .setPublicKey(info(key))
                .setProofOfPossessionSubsequentMessage(SubsequentMessage.encrCert)
                .build()
                .toASN1Structure());
        CertReqMessages authenticated = new CertReqMessages(new CertificateRequestMessageBuilder(BigInteger.ZERO)
                .setPublicKey(info(key))
                .setAuthInfoPKMAC(macs(), "secret".toCharArray())
                .setProofOfPossessionSigningKeySigner(signer(key))
                .build()
                .toASN1Structure());
        CertReqMessages approved = new CertReqMessages(new CertificateRequestMessageBuilder(BigInteger.ZERO)
                .setSubject(name)
                .setPublicKey(info(key))
                .setProofOfPossessionRaVerified()
                .build()
                .toASN1Structure());
        CertRepMessage response = new CertRepMessage(new CMPCertificate[] {certificate}, new CertResponse[] {
            new CertResponse(new ASN1Integer(0), granted, new CertifiedKeyPair(new CertOrEncCert(certificate)), null)
        });
        CertRepMessage refusal =
                new CertRepMessage(null, new CertResponse[] {new CertResponse(new ASN1Integer(0), refused)});
        RevDetails details = new RevDetails(new RevocationDetailsBuilder()
                .setIssuer(name)
                .setSerialNumber(BigInteger.TEN)
                .build()
                .toASN1Structure()
                .getCertDetails());
        CertId certId = new CertId(new GeneralName(name), BigInteger.TEN);
        ASN1EncodableVector announcement = new ASN1EncodableVector();
        announcement.add(new ASN1Integer(PKIStatus.REVOCATION_NOTIFICATION));
        announcement.add(certId);
        announcement.add(new ASN1GeneralizedTime(now));
        announcement.add(new ASN1GeneralizedTime(now));
        ASN1EncodableVector recovered = new ASN1EncodableVector();
        recovered.add(granted);
        recovered.add(new DERTaggedObject(true, 0, certificate));
        recovered.add(new DERTaggedObject(true, 1, new DERSequence(certificate)));
        ASN1EncodableVector poll = new ASN1EncodableVector();
        poll.add(new ASN1Integer(0));
        poll.add(new ASN1Integer(60));
        poll.add(new DERSequence(new DERUTF8String("soon")));
        PKIMessage inner = protectedMessage(
                        new Certified(holder, key), new PKIBody(PKIBody.TYPE_GEN_MSG, info(CMPObjectIdentifiers.id_it_caCerts)))
                .toASN1Structure();

        Map<String, PKIBody> bodies = new LinkedHashMap<>();
        bodies.put("ir", new PKIBody(PKIBody.TYPE_INIT_REQ, requests));
        bodies.put("ir-encrCert", new PKIBody(PKIBody.TYPE_INIT_REQ, indirect));
        bodies.put("ir-publicKeyMAC", new PKIBody(PKIBody.TYPE_INIT_REQ, authenticated));
        bodies.put("ir-raVerified", new PKIBody(PKIBody.TYPE_INIT_REQ, approved));
        bodies.put("ip", new PKIBody(PKIBody.TYPE_INIT_REP, response));
        bodies.put("cr", new PKIBody(PKIBody.TYPE_CERT_REQ, requests));
        bodies.put("cp", new PKIBody(PKIBody.TYPE_CERT_REP, refusal));
        bodies.put(
                "p10cr",
                new PKIBody(
                        PKIBody.TYPE_P10_CERT_REQ,
                        new JcaPKCS10CertificationRequestBuilder(name, key.getPublic()).build(signer(key)).toASN1Structure()));
        bodies.put(
                "popdecc",
                new PKIBody(
                        PKIBody.TYPE_POPO_CHALL,
                        POPODecKeyChallContent.getInstance(new DERSequence(new Challenge(SHA256, fresh(32), fresh(256))))));
        bodies.put(
                "popdecr",
                new PKIBody(PKIBody.TYPE_POPO_REP, POPODecKeyRespContent.getInstance(new DERSequence(new ASN1Integer(77)))));
        bodies.put("kur", new PKIBody(PKIBody.TYPE_KEY_UPDATE_REQ, requests));
        bodies.put("kup", new PKIBody(PKIBody.TYPE_KEY_UPDATE_REP, response));
        bodies.put("krr", new PKIBody(PKIBody.TYPE_KEY_RECOVERY_REQ, requests));
        bodies.put("krp", new PKIBody(PKIBody.TYPE_KEY_RECOVERY_REP, KeyRecRepContent.getInstance(new DERSequence(recovered))));
        bodies.put("rr", new PKIBody(PKIBody.TYPE_REVOCATION_REQ, new RevReqContent(details)));
        bodies.put("rp", new PKIBody(PKIBody.TYPE_REVOCATION_REP, new RevRepContentBuilder().add(granted, certId).build()));
        bodies.put("ccr", new PKIBody(PKIBody.TYPE_CROSS_CERT_REQ, requests));
        bodies.put("ccp", new PKIBody(PKIBody.TYPE_CROSS_CERT_REP, response));
        bodies.put(
                "ckuann", new PKIBody(PKIBody.TYPE_CA_KEY_UPDATE_ANN, new CAKeyUpdAnnContent(certificate, certificate, certificate)));
        bodies.put("cann", new PKIBody(PKIBody.TYPE_CERT_ANN, certificate));
        bodies.put("rann", new PKIBody(PKIBody.TYPE_REVOCATION_ANN, RevAnnContent.getInstance(new DERSequence(announcement))));
        bodies.put("crlann", new PKIBody(PKIBody.TYPE_CRL_ANN, new CRLAnnContent(crl)));
        bodies.put("pkiconf", new PKIBody(PKIBody.TYPE_CONFIRM, new PKIConfirmContent()));
        bodies.put("nested", new PKIBody(PKIBody.TYPE_NESTED, new PKIMessages(inner)));
        bodies.put("genm", new PKIBody(PKIBody.TYPE_GEN_MSG, info(CMPObjectIdentifiers.id_it_rootCaCert, x509)));
        bodies.put(
                "genp",
                new PKIBody(
                        PKIBody.TYPE_GEN_REP,
                        new GenRepContent(new InfoTypeAndValue(CMPObjectIdentifiers.id_it_caCerts, new DERSequence(x509)))));
        bodies.put("error", new PKIBody(PKIBody.TYPE_ERROR, new ErrorMsgContent(refused)));
        bodies.put(
                "certConf",
                new PKIBody(
                        PKIBody.TYPE_CERT_CONFIRM,
                        CertConfirmContent.getInstance(
                                new DERSequence(new CertStatus(fresh(32), BigInteger.ZERO, new PKIStatusInfo(PKIStatus.granted))))));
        bodies.put("pollReq", new PKIBody(PKIBody.TYPE_POLL_REQ, new PollReqContent(new ASN1Integer(0))));
        bodies.put("pollRep", new PKIBody(PKIBody.TYPE_POLL_REP, PollRepContent.getInstance(new DERSequence(new DERSequence(poll)))));

        List<Credential> credentials = new ArrayList<>();
        credentials.add(new Secret("bouncy".getBytes(), "secret".toCharArray()));
        credentials.add(new Certified(holder, key));
        for (Map.Entry<String, PKIBody> each : bodies.entrySet()) {
            for (Credential credential : credentials) {
                byte[] der = protectedMessage(credential, each.getValue()).toASN1Structure().getEncoded("DER");
                String kind = credential instanceof Secret ? "mac" : "signature";
                System.out.println(each.getKey() + "/" + kind + " " + Base64.getEncoder().encodeToString(der));
            }
        }
    }

    private static GenMsgContent info(ASN1ObjectIdentifier type, ASN1Encodable... value) {
        return new GenMsgContent(value.length == 0 ? new InfoTypeAndValue(type) : new InfoTypeAndValue(type, value[0]));
    }

    private static ProtectedPKIMessage protectedMessage(Credential who, PKIBody body) throws Exception {
        return who.protect(new ProtectedPKIMessageBuilder(who.name(), new GeneralName(SERVER))
                .setMessageTime(new Date())
                .setSenderKID(who.identifier())
                .setTransactionID(fresh(16))
                .setSenderNonce(fresh(16))
                .setRecipNonce(fresh(16))
                .setBody(body));
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        switch (arguments[0]) {
            case "client" -> client(arguments[1]);
            case "server" -> serve();
            case "messages" -> messages();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }
}
